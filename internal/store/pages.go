package store

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/buildcast/buildcast"
)

// Place is the end of a page of builds: the creation time, in milliseconds, and the
// id of its last build.
type Place struct {
	Created int64
	ID      string
}

// String returns the form of Page.Next.
func (p Place) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", p.Created, p.ID))
}

// ParsePlace reads the form of String. InvalidArgument for anything else.
func ParsePlace(s string) (Place, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	created, id, _ := strings.Cut(string(b), " ")
	n, err2 := strconv.ParseInt(created, 10, 64)
	if err != nil || err2 != nil || buildcast.ValidateBuildID(id) != nil {
		return Place{}, buildcast.Errorf(buildcast.InvalidArgument, "before is not a place in this list: use the next of an earlier page, or leave it out").At("before")
	}
	return Place{n, id}, nil
}
