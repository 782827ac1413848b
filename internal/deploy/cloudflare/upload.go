package cloudflare

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast/internal/deploy"
)

// Bounds of one upload request, and how many are under way at once.
const (
	bucketBytes = 40 << 20 // of the files themselves
	bucketFiles = 2000
	uploads     = 3

	uploadRetries = 5
)

// uploadToken lets a client upload assets of one project for some minutes.
type uploadToken struct {
	target  *Target
	project string

	mu  sync.Mutex
	jwt string
}

// get returns the token, and asks for a new one if the last one is not taken any
// longer.
func (u *uploadToken) get(ctx context.Context, refused string) (string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.jwt != "" && u.jwt != refused {
		return u.jwt, nil
	}
	var answer struct{ JWT string }
	err := u.target.repeat(ctx, uploadRetries, func() error {
		return u.target.call(ctx, u.target.config.Token, "GET", u.target.projectPath(u.project)+"/upload-token", nil, &answer)
	})
	if err != nil {
		return "", err
	}
	u.jwt = answer.JWT
	return u.jwt, nil
}

// call is Target.call with the upload token, which is replaced if it has expired.
func (u *uploadToken) call(ctx context.Context, retries int, path string, b *body, result any) error {
	refused := ""
	return u.target.repeat(ctx, retries, func() error {
		for {
			jwt, err := u.get(ctx, refused)
			if err != nil {
				return err
			}
			err = u.target.call(ctx, jwt, "POST", path, b, result)
			failure, answered := errors.AsType[*apiError](err)
			if !answered || !failure.expired() || refused != "" {
				return err
			}
			refused = jwt
		}
	})
}

// upload sends what the service lacks. It reports how far it has come after each
// request.
func (t *Target) upload(ctx context.Context, token *uploadToken, s *site, progress func(deploy.Progress)) error {
	var missing []string
	b, err := jsonBody(map[string]any{"hashes": s.hashes()})
	if err != nil {
		return err
	}
	if err := token.call(ctx, uploadRetries, "/pages/assets/check-missing", b, &missing); err != nil {
		return describe("it was asked which files it lacks", err)
	}
	lacking := s.lacking(missing)
	var sent atomic.Int64
	report := func() {
		n := int(sent.Load())
		progress(deploy.Progress{Percent: 10 + 70*n/max(len(lacking), 1), Uploaded: n, Total: len(lacking), Message: fmt.Sprintf("Uploaded %d of %d files", n, len(lacking))})
	}
	if len(lacking) > 0 {
		report()
	}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(uploads)
	var reporting sync.Mutex
	for _, bucket := range buckets(lacking) {
		group.Go(func() error {
			if err := token.call(sending, uploadRetries, "/pages/assets/upload", s.bucketBody(sending, bucket), nil); err != nil {
				return describe("files were uploaded", err)
			}
			sent.Add(int64(len(bucket)))
			reporting.Lock()
			defer reporting.Unlock()
			report()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	b, err = jsonBody(map[string]any{"hashes": s.hashes()})
	if err != nil {
		return err
	}
	// It only keeps the service from forgetting files: a failure costs the next deploy an upload.
	if err := token.call(ctx, 1, "/pages/assets/upsert-hashes", b, nil); err != nil {
		t.config.Logger.Warn("Cloudflare did not note the files that it has; the next deploy may upload them again", "error", err)
	}
	return nil
}

// lacking are the assets with a hash that is missing, each hash once, the largest
// first.
func (s *site) lacking(missing []string) []asset {
	wanted := make(map[string]bool, len(missing))
	for _, hash := range missing {
		wanted[hash] = true
	}
	var list []asset
	for _, a := range s.assets {
		if wanted[a.hash] {
			delete(wanted, a.hash)
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b asset) int { return cmp.Compare(b.size, a.size) })
	return list
}

// buckets splits the assets into requests.
func buckets(assets []asset) [][]asset {
	var all [][]asset
	size := int64(0)
	for _, a := range assets {
		last := len(all) - 1
		if last < 0 || len(all[last]) == bucketFiles || size+a.size > bucketBytes {
			all, size, last = append(all, nil), 0, last+1
		}
		all[last] = append(all[last], a)
		size += a.size
	}
	return all
}

// uploadedFile is one element of an upload's body, but for its value.
type uploadedFile struct {
	Key      string            `json:"key"`
	Metadata map[string]string `json:"metadata"`
	Base64   bool              `json:"base64"`
}

// bucketBody is the JSON of one upload. It is written while it is sent: a bucket is
// never in memory as a whole.
func (s *site) bucketBody(ctx context.Context, bucket []asset) *body {
	prefix := func(i int, a asset) string {
		head, _ := json.Marshal(uploadedFile{a.hash, map[string]string{"contentType": contentType(a.path)}, true}) // strings cannot fail
		open := "["
		if i > 0 {
			open = ","
		}
		return open + strings.TrimSuffix(string(head), "}") + `,"value":"`
	}
	length := int64(1)
	for i, a := range bucket {
		length += int64(len(prefix(i, a))+base64.StdEncoding.EncodedLen(int(a.size))) + 2
	}
	return &body{"application/json", length, func() io.ReadCloser {
		r, w := io.Pipe()
		go func() { // ends with the request: its transport closes r
			w.CloseWithError(func() error {
				for i, a := range bucket {
					if _, err := io.WriteString(w, prefix(i, a)); err != nil {
						return err
					}
					if err := s.encode(ctx, w, a); err != nil {
						return err
					}
					if _, err := io.WriteString(w, `"}`); err != nil {
						return err
					}
				}
				_, err := io.WriteString(w, "]")
				return err
			}())
		}()
		return r
	}}
}

// encode writes the asset's content as base64.
func (s *site) encode(ctx context.Context, w io.Writer, a asset) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := deploy.OpenRegular(s.Root, a.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return encodeFile(w, f, a)
}

func encodeFile(w io.Writer, f *os.File, a asset) error {
	encoder := base64.NewEncoder(base64.StdEncoding, w)
	n, err := io.Copy(encoder, io.LimitReader(f, a.size+1))
	switch {
	case err != nil:
		return err
	case n != a.size:
		return fmt.Errorf("%s changed while it was uploaded", a.path)
	}
	return encoder.Close()
}
