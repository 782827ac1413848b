// Package turbocache serves Turborepo's remote cache protocol (/v8/artifacts) from the
// server's cache. `turbo` uses it if TURBO_API, TURBO_TOKEN and TURBO_TEAM are set.
//
// Who may read and write what is the caller's decision: each request is served in a
// [Access], which no part of the request can change.
//
// An answer never makes turbo fail: what is not there is 404, trouble of the server is a
// 5xx, which turbo repeats, and 412 if a repeat is useless, such as on a full disk. turbo
// runs its tasks in all these cases.
package turbocache

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast/internal/cache"
)

// Limits of requests.
const (
	MaxArtifact   = 512 << 20 // bytes
	maxHash       = 128       // characters
	maxTag        = 1024      // bytes of x-artifact-tag
	maxHashes     = 1000      // of a query
	maxBody       = 256 << 10 // bytes of a query or of events
	maxUploads    = 8         // at once; more wait
	uploadWait    = 10 * time.Second
	uploadTimeout = 10 * time.Minute
)

// The protocol's headers.
const (
	durationHeader = "X-Artifact-Duration"
	tagHeader      = "X-Artifact-Tag"
)

// blobName is the artifact's name in its entry.
const blobName = "artifact"

// Prefix is the path below which everything is served.
const Prefix = "/v8/artifacts"

// Cache keeps artifacts; see cache.Cache.
type Cache interface {
	Get(s cache.Scope, k *cache.Key) *cache.Entry
	Content(ctx context.Context, e *cache.Entry, name string) (io.ReadSeekCloser, error)
	Put(ctx context.Context, s cache.Scope, k *cache.Key, e cache.Entry, content map[string]cache.Source, replace bool) error
}

// Access is what a request may read and write.
type Access struct {
	Scope   cache.Scope
	BuildID string // of the build whose command asks; empty: nobody's
	// NoRead hides what is kept: for a build that was told to read nothing from the cache.
	NoRead bool
}

// Handler serves the protocol.
type Handler struct {
	cache   Cache
	log     *slog.Logger
	uploads chan struct{}
	mux     *http.ServeMux
}

// New returns a handler. Without a cache (nil), it answers that caching is disabled.
func New(c Cache, log *slog.Logger) *Handler {
	h := &Handler{cache: c, log: log, uploads: make(chan struct{}, maxUploads), mux: http.NewServeMux()}
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request, Access) error{
		"GET " + Prefix + "/status":     h.status,
		"POST " + Prefix + "/events":    h.events,
		"POST " + Prefix:                h.query,
		"GET " + Prefix + "/{hash}":     h.get, // and HEAD
		"PUT " + Prefix + "/{hash}":     h.put,
		"OPTIONS " + Prefix + "/{hash}": h.preflight,
	} {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			access, _ := r.Context().Value(accessKey{}).(Access)
			if err := serve(w, r, access); err != nil {
				h.fail(w, r, err)
			}
		})
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, &failure{http.StatusNotFound, "not_found", "there is nothing at this address: Turborepo's remote cache is at " + Prefix})
	})
	return h
}

type accessKey struct{}

// Serve serves the request with the access.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, a Access) {
	h.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), accessKey{}, a)))
}

// Team returns the team that a request of turbo names: TURBO_TEAM, or TURBO_TEAMID.
func Team(r *http.Request) string {
	q := r.URL.Query()
	for _, name := range []string{"slug", "teamId", "team"} {
		if team := q.Get(name); team != "" {
			return team
		}
	}
	return ""
}

func (h *Handler) status(w http.ResponseWriter, _ *http.Request, _ Access) error {
	status := "enabled"
	if h.cache == nil {
		status = "disabled"
	}
	answer(w, http.StatusOK, map[string]string{"status": status})
	return nil
}

// find returns the entry of the request's hash.
func (h *Handler) find(a Access, hash string) (*cache.Entry, error) {
	key, err := keyOf(hash)
	switch {
	case err != nil:
		return nil, err
	case h.cache == nil:
		return nil, disabled
	}
	if a.NoRead {
		return nil, absent
	}
	if e := h.cache.Get(a.Scope, key); e != nil {
		return e, nil
	}
	return nil, absent
}

func keyOf(hash string) (*cache.Key, error) {
	if hash == "" || len(hash) > maxHash || strings.Trim(hash, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return nil, &failure{http.StatusBadRequest, "bad_request", "the hash is not 1 to 128 letters, digits, _ or -"}
	}
	var k cache.Key
	k.Add(cache.PartOther, "turborepo", hash)
	return &k, nil
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request, a Access) error {
	e, err := h.find(a, r.PathValue("hash"))
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("Content-Type", "application/octet-stream")
	head.Set("Content-Length", strconv.FormatInt(e.Size(), 10))
	head.Set(durationHeader, strconv.FormatInt(e.DurationMS, 10))
	if tag := e.Meta["tag"]; tag != "" {
		head.Set(tagHeader, tag)
	}
	if r.Method == http.MethodHead {
		return nil
	}
	content, err := h.cache.Content(r.Context(), e, blobName)
	if err != nil {
		if _, err := h.find(a, r.PathValue("hash")); err != nil {
			return err // it was damaged, and the cache has removed it
		}
		return err
	}
	defer content.Close()
	_, _ = io.Copy(w, content) // else the client has gone, and sees that the answer is short
	return nil
}

func (h *Handler) put(w http.ResponseWriter, r *http.Request, a Access) error {
	key, err := keyOf(r.PathValue("hash"))
	if err != nil {
		return err
	}
	if h.cache == nil {
		return disabled
	}
	e := cache.Entry{Kind: cache.KindArtifact, Name: r.PathValue("hash"), BuildID: a.BuildID}
	if e.DurationMS, e.Meta, err = described(r.Header); err != nil {
		return err
	}
	if r.ContentLength > MaxArtifact {
		return tooLarge
	}
	select {
	case h.uploads <- struct{}{}:
		defer func() { <-h.uploads }()
	case <-time.After(uploadWait):
		return busy
	case <-r.Context().Done():
		return nil
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadTimeout)) // fails for a recorder in a test
	body := http.MaxBytesReader(w, r.Body, MaxArtifact)
	if err := h.cache.Put(r.Context(), a.Scope, key, e, map[string]cache.Source{blobName: cache.Reader(body)}, false); err != nil {
		return err
	}
	answer(w, http.StatusAccepted, map[string][]string{"urls": {Prefix + "/" + e.Name}})
	return nil
}

// described reads what turbo tells of an artifact, and wants to hear again.
func described(h http.Header) (durationMS int64, meta map[string]string, err error) {
	if text := h.Get(durationHeader); text != "" {
		if durationMS, err = strconv.ParseInt(text, 10, 64); err != nil || durationMS < 0 {
			return 0, nil, &failure{http.StatusBadRequest, "bad_request", "x-artifact-duration is not a number of milliseconds"}
		}
	}
	tag := h.Get(tagHeader)
	if len(tag) > maxTag {
		return 0, nil, &failure{http.StatusBadRequest, "bad_request", "x-artifact-tag is longer than 1024 bytes"}
	}
	if tag != "" {
		meta = map[string]string{"tag": tag}
	}
	return durationMS, meta, nil
}

// preflight tells turbo (TURBO_PREFLIGHT=true) to send the request itself here, with
// its token.
func (h *Handler) preflight(w http.ResponseWriter, _ *http.Request, _ Access) error {
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, User-Agent, x-artifact-duration, x-artifact-tag, x-artifact-client-ci, x-artifact-client-interactive")
	w.WriteHeader(http.StatusOK)
	return nil
}

// query tells what is kept of several hashes.
func (h *Handler) query(w http.ResponseWriter, r *http.Request, a Access) error {
	var asked struct {
		Hashes []string `json:"hashes"`
	}
	if err := decode(w, r, &asked); err != nil {
		return err
	}
	if len(asked.Hashes) > maxHashes {
		return &failure{http.StatusBadRequest, "bad_request", "there are more than 1000 hashes"}
	}
	type known struct {
		Size     int64  `json:"size"`
		Duration int64  `json:"taskDurationMs"`
		Tag      string `json:"tag,omitempty"`
	}
	found := make(map[string]*known, len(asked.Hashes))
	for _, hash := range asked.Hashes {
		e, err := h.find(a, hash)
		switch {
		case err == nil:
			found[hash] = &known{e.Size(), e.DurationMS, e.Meta["tag"]}
		case errors.Is(err, absent):
			found[hash] = nil
		default:
			return err
		}
	}
	answer(w, http.StatusOK, found)
	return nil
}

// events takes turbo's own count of hits. It is only logged.
func (h *Handler) events(w http.ResponseWriter, r *http.Request, a Access) error {
	var told []struct {
		Source string `json:"source"` // REMOTE, or LOCAL: turbo's own directory
		Event  string `json:"event"`
	}
	if err := decode(w, r, &told); err != nil {
		return err
	}
	count := map[string]int{}
	for _, e := range told {
		if e.Source == "REMOTE" {
			count[e.Event]++
		}
	}
	h.log.Debug("turbo asked the cache", "build", a.BuildID, "hits", count["HIT"], "misses", count["MISS"])
	answer(w, http.StatusOK, struct{}{})
	return nil
}

func decode(w http.ResponseWriter, r *http.Request, to any) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(to)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	if err != nil {
		return &failure{http.StatusBadRequest, "bad_request", "the body is not the JSON that is expected here"}
	}
	return nil
}
