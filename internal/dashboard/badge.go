package dashboard

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/buildcast/buildcast"
)

// How long, in seconds, browsers may cache a badge.
const (
	badgeAge    = 5
	finishedAge = 60 // a finished build may still be deleted and made again
)

// Colours of a badge's right half; white on each is readable (4.5:1 or better).
const (
	green = "#1a7f37"
	red   = "#c0262d"
	blue  = "#0b62c4"
	grey  = "#5c6470"
)

// badge answers /badge/{id}.svg. If the build does not exist, it answers 404 with a
// badge that says so; browsers show that badge instead of a broken image.
func (c Config) badge(w http.ResponseWriter, r *http.Request) {
	id, isBadge := strings.CutSuffix(r.PathValue("file"), ".svg")
	if !isBadge {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Cache-Control", "no-store")
	if buildcast.ValidateBuildID(id) != nil {
		badgeFile("unknown", grey).send(w, r, http.StatusNotFound)
		return
	}
	found, err := c.Statuses(r.Context(), []string{id})
	if err != nil {
		badgeFile("unavailable", grey).send(w, r, http.StatusServiceUnavailable)
		return
	}
	status, ok := found[id]
	if !ok {
		badgeFile("unknown", grey).send(w, r, http.StatusNotFound)
		return
	}
	age := badgeAge
	if status.Phase.Terminal() {
		age = finishedAge
	}
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(age))
	badgeFile(verdict(&status)).send(w, r, http.StatusOK)
}

// verdict returns the badge's text for a build, and its colour.
func verdict(s *buildcast.Status) (message, colour string) {
	switch s.Phase {
	case buildcast.Completed:
		return "passed", green
	case buildcast.Failed:
		return "failed", red
	case buildcast.Cancelled:
		return "cancelled", grey
	case buildcast.Queued:
		return "queued", grey
	}
	return strconv.Itoa(s.Progress) + " %", blue
}

func badgeFile(message, colour string) file {
	body := drawBadge("build", message, colour)
	return file{body, types[".svg"], tagOf(body)}
}

const badgeShape = `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="20" role="img" aria-label="%[2]s: %[3]s">` +
	`<title>%[2]s: %[3]s</title>` +
	`<clipPath id="r"><rect width="%[1]d" height="20" rx="4"/></clipPath>` +
	`<g clip-path="url(#r)"><rect width="%[1]d" height="20" fill="#3a3f47"/>` +
	`<rect x="%[4]d" width="%[5]d" height="20" fill="%[6]s"/></g>` +
	`<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">` +
	`<text x="%[7]d" y="14" textLength="%[8]d">%[2]s</text><text x="%[9]d" y="14" textLength="%[10]d">%[3]s</text></g></svg>`

// drawBadge returns the image. It escapes the texts; colour is one of the constants.
func drawBadge(label, message, colour string) []byte {
	left, right := textWidth(label), textWidth(message)
	l, r := left+12, right+12 // 6 of room on each side
	return fmt.Appendf(nil, badgeShape, l+r, escape(label), escape(message), l, r, colour, l/2, left, l+r/2, right)
}

// textWidth returns the approximate width in Verdana at 11 px; textLength stretches
// any font to it.
func textWidth(s string) int { return 7 * utf8.RuneCountInString(s) }

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder never fails
	return b.String()
}
