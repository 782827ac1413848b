// Package cloudflaretest is a stand-in for Cloudflare's API on loopback, as far as
// direct uploads to Pages need it. It checks what it is sent as the service does, and
// fails in the ways that the service has been seen to fail.
package cloudflaretest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lukechampine.com/blake3"
)

// Account and Token are what requests must carry.
const (
	Account = "0123456789abcdef"
	Token   = "the-api-token"
)

// Fake is the service. Its fields may be set before it is called.
type Fake struct {
	// Fail, if set, is asked before each request; it answers the request itself and
	// returns true, or returns false.
	Fail func(w http.ResponseWriter, r *http.Request) bool
	// Hold, if set, is called before and after each request is served, before the client
	// gets the answer. It may block, as a slow service does.
	Hold func(r *http.Request, served bool)
	// Forgetful keeps only that there is an asset, and not its content: large sites then
	// take no memory here. Site and the check of manifests do without.
	Forgetful bool
	// Stages are what the last stage is, look by look; the last stays. Default: one look at
	// "deploy" "active", then "success".
	Stages [][2]string
	// Log is the deployments' log.
	Log []string

	mu          sync.Mutex
	projects    map[string]string // name -> production branch
	assets      map[string][]byte // by hash: the content
	types       map[string]string // by hash: the content type
	Deployments []*Deployment     // the newest first
	Uploads     int               // files that were uploaded
	Tokens      int               // upload tokens that were made
	Requests    []string          // method and path
	looks       map[string]int
	Canonical   string // id of the canonical deployment
}

// Deployment is what was made.
type Deployment struct {
	ID, Branch, Message string
	CommitHash          string
	Manifest            map[string]string
	Files               map[string]string // the special ones
	Fields              []string          // the names of the form's text fields, in order
	Created             time.Time
}

// Start serves the fake until stop is called. The base URL ends in /client/v4, as the
// service's does.
func (f *Fake) Start() (baseURL string, stop func()) {
	f.projects, f.assets, f.types, f.looks = map[string]string{}, map[string][]byte{}, map[string]string{}, map[string]int{}
	server := httptest.NewServer(http.StripPrefix("/client/v4", f.handler()))
	return server.URL + "/client/v4", server.Close
}

// Lock guards the fields while the fake is in use.
func (f *Fake) Lock() func() { f.mu.Lock(); return f.mu.Unlock }

// Site returns the contents of a deployment by path.
func (f *Fake) Site(d *Deployment) map[string]string {
	defer f.Lock()()
	site := map[string]string{}
	for p, hash := range d.Manifest {
		site[p] = string(f.assets[hash])
	}
	return site
}

// ContentType is what the asset of the deployment at the path was uploaded as.
func (f *Fake) ContentType(d *Deployment, p string) string {
	defer f.Lock()()
	return f.types[d.Manifest[p]]
}

// Error answers as the service does if it refuses.
func Error(w http.ResponseWriter, status, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "errors": []any{map[string]any{"code": code, "message": message}}, "messages": []any{}, "result": nil})
}

func answer(w http.ResponseWriter, result any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "errors": []any{}, "messages": []any{}, "result": result})
}

func (f *Fake) handler() http.Handler {
	mux := http.NewServeMux()
	projects := "/accounts/" + Account + "/pages/projects"
	api := func(pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, bearer(Token, h)) }
	asset := func(pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, f.withUploadToken(h)) }
	api("GET "+projects+"/{project}", f.project)
	api("POST "+projects, f.makeProject)
	api("GET "+projects+"/{project}/upload-token", f.giveUploadToken)
	api("POST "+projects+"/{project}/deployments", f.deploy)
	api("GET "+projects+"/{project}/deployments", f.list)
	api("GET "+projects+"/{project}/deployments/{id}", f.look)
	api("DELETE "+projects+"/{project}/deployments/{id}", f.remove)
	api("GET "+projects+"/{project}/deployments/{id}/history/logs", f.logs)
	asset("POST /pages/assets/check-missing", f.checkMissing)
	asset("POST /pages/assets/upload", f.upload)
	asset("POST /pages/assets/upsert-hashes", func(w http.ResponseWriter, _ *http.Request) { answer(w, true) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.Requests = append(f.Requests, r.Method+" "+r.URL.Path)
		fail := f.Fail
		f.mu.Unlock()
		if fail != nil && fail(w, r) {
			return
		}
		if f.Hold == nil {
			mux.ServeHTTP(w, r)
			return
		}
		f.Hold(r, false)
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, r)
		f.Hold(r, true)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // an error: the client has gone
	})
}

func bearer(token string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			Error(w, http.StatusForbidden, 10000, "Authentication error")
			return
		}
		h(w, r)
	}
}

// withUploadToken takes the newest upload token only.
func (f *Fake) withUploadToken(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		want := uploadToken(f.Tokens)
		f.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+want {
			http.Error(w, "Expired JWT", http.StatusForbidden) // in plain text, as seen
			return
		}
		h(w, r)
	}
}

// uploadToken is the n-th upload token, in the form of the service's: clients read its
// claims, and no client can check its signature.
func uploadToken(n int) string {
	part := func(v map[string]any) string {
		b, _ := json.Marshal(v) // of plain values: it cannot fail
		return base64.RawURLEncoding.EncodeToString(b)
	}
	claims := map[string]any{"n": n, "exp": time.Now().Add(time.Hour).Truncate(24 * time.Hour).Add(48 * time.Hour).Unix(), "max_file_count_allowed": 20_000}
	return part(map[string]any{"alg": "HS256"}) + "." + part(claims) + ".c2lnbmF0dXJl"
}

// Forget forgets all assets.
func (f *Fake) Forget() {
	defer f.Lock()()
	f.assets, f.types = map[string][]byte{}, map[string]string{}
}

// Expire makes the newest upload token one that is no longer taken.
func (f *Fake) Expire() {
	defer f.Lock()()
	f.Tokens++
}

func (f *Fake) project(w http.ResponseWriter, r *http.Request) {
	defer f.Lock()()
	branch, ok := f.projects[r.PathValue("project")]
	if !ok {
		Error(w, http.StatusNotFound, 8000007, "Project not found. The specified project name does not match any of your existing projects.")
		return
	}
	result := map[string]any{
		"name": r.PathValue("project"), "production_branch": branch, "canonical_deployment": nil,
		"deployment_configs": map[string]any{"preview": map[string]any{}, "production": map[string]any{}},
	}
	if f.Canonical != "" {
		result["canonical_deployment"] = map[string]any{"id": f.Canonical}
	}
	answer(w, result)
}

func (f *Fake) makeProject(w http.ResponseWriter, r *http.Request) {
	defer f.Lock()()
	var asked struct {
		Name   string `json:"name"`
		Branch string `json:"production_branch"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || asked.Name == "" || asked.Branch == "" {
		Error(w, http.StatusBadRequest, 8000009, "invalid project")
		return
	}
	if _, ok := f.projects[asked.Name]; ok {
		Error(w, http.StatusConflict, 8000002, "A project with this name already exists.")
		return
	}
	f.projects[asked.Name] = asked.Branch
	answer(w, map[string]any{"name": asked.Name})
}

func (f *Fake) giveUploadToken(w http.ResponseWriter, _ *http.Request) {
	defer f.Lock()()
	f.Tokens++
	answer(w, map[string]any{"jwt": uploadToken(f.Tokens)})
}

func (f *Fake) checkMissing(w http.ResponseWriter, r *http.Request) {
	defer f.Lock()()
	var asked struct{ Hashes []string }
	if json.NewDecoder(r.Body).Decode(&asked) != nil {
		Error(w, http.StatusBadRequest, 8000010, "invalid hashes")
		return
	}
	missing := []string{}
	for _, hash := range asked.Hashes {
		if _, ok := f.assets[hash]; !ok {
			missing = append(missing, hash)
		}
	}
	answer(w, missing)
}

// upload reads one file after another, as it takes more memory than the client may
// to hold a bucket.
func (f *Fake) upload(w http.ResponseWriter, r *http.Request) {
	d := json.NewDecoder(r.Body)
	if _, err := d.Token(); err != nil {
		Error(w, http.StatusBadRequest, 8000011, "invalid body")
		return
	}
	for d.More() {
		var file struct {
			Key, Value string
			Metadata   struct{ ContentType string }
			Base64     bool
		}
		if err := d.Decode(&file); err != nil || !file.Base64 || file.Metadata.ContentType == "" {
			Error(w, http.StatusBadRequest, 8000011, "invalid file")
			return
		}
		content, err := base64.StdEncoding.DecodeString(file.Value)
		if err != nil {
			Error(w, http.StatusBadRequest, 8000011, "invalid base64")
			return
		}
		if f.Forgetful {
			content = nil
		}
		f.mu.Lock()
		f.assets[file.Key], f.types[file.Key] = content, file.Metadata.ContentType
		f.Uploads++
		f.mu.Unlock()
	}
	answer(w, map[string]any{"successful_key_count": 1})
}

func (f *Fake) deploy(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseMultipartForm(32 << 20); err != nil {
		Error(w, http.StatusBadRequest, 8000012, "invalid form")
		return
	}
	defer f.Lock()()
	d := &Deployment{Branch: r.FormValue("branch"), Message: r.FormValue("commit_message"), CommitHash: r.FormValue("commit_hash"), Files: map[string]string{}, Created: time.Now().UTC()}
	if len(d.Message) > 384 || json.Unmarshal([]byte(r.FormValue("manifest")), &d.Manifest) != nil {
		Error(w, http.StatusBadRequest, 8000012, "invalid form")
		return
	}
	for p, hash := range d.Manifest {
		content, ok := f.assets[hash]
		if !ok || !strings.HasPrefix(p, "/") || !f.Forgetful && assetHash(content, p) != hash {
			Error(w, http.StatusBadRequest, 8000014, "asset of "+p+" is missing or has another hash")
			return
		}
	}
	d.Fields = slices.Sorted(maps.Keys(r.MultipartForm.Value))
	for name, headers := range r.MultipartForm.File {
		file, err := headers[0].Open()
		if err == nil {
			b, _ := io.ReadAll(file)
			d.Files[name] = string(b)
			file.Close()
		}
	}
	d.ID = fmt.Sprintf("d%d", len(f.Deployments)+1)
	f.Deployments = append([]*Deployment{d}, f.Deployments...)
	answer(w, f.describe(d))
}

// assetHash is written a second time, on purpose: it checks the client's.
func assetHash(content []byte, p string) string {
	ext := strings.TrimPrefix(path.Ext(p), ".")
	if base := path.Base(p); strings.LastIndexByte(base, '.') <= 0 {
		ext = ""
	}
	sum := blake3.Sum256([]byte(base64.StdEncoding.EncodeToString(content) + ext))
	return hex.EncodeToString(sum[:])[:32]
}

func (f *Fake) describe(d *Deployment) map[string]any {
	stages := f.Stages
	if stages == nil {
		stages = [][2]string{{"deploy", "active"}, {"deploy", "success"}}
	}
	stage := stages[min(f.looks[d.ID], len(stages)-1)]
	return map[string]any{
		"id": d.ID, "aliases": nil, "url": "https://" + d.ID + ".pages.test", "created_on": d.Created,
		"latest_stage":       map[string]any{"name": stage[0], "status": stage[1]},
		"deployment_trigger": map[string]any{"metadata": map[string]any{"branch": d.Branch, "commit_hash": d.CommitHash}},
	}
}

func (f *Fake) find(id string) (int, *Deployment) {
	for i, d := range f.Deployments {
		if d.ID == id {
			return i, d
		}
	}
	return 0, nil
}

func (f *Fake) look(w http.ResponseWriter, r *http.Request) {
	defer f.Lock()()
	_, d := f.find(r.PathValue("id"))
	if d == nil {
		Error(w, http.StatusNotFound, 8000009, "Deployment not found")
		return
	}
	f.looks[d.ID]++
	answer(w, f.describe(d))
}

func (f *Fake) list(w http.ResponseWriter, r *http.Request) {
	defer f.Lock()()
	page, _ := strconv.Atoi(r.FormValue("page"))
	size, _ := strconv.Atoi(r.FormValue("per_page"))
	if size > 25 {
		Error(w, http.StatusBadRequest, 8000024, "per_page is at most 25")
		return
	}
	found := []any{}
	for i := (page - 1) * size; i < min(page*size, len(f.Deployments)); i++ {
		found = append(found, f.describe(f.Deployments[i]))
	}
	answer(w, found)
}

func (f *Fake) remove(w http.ResponseWriter, r *http.Request) {
	defer f.Lock()()
	i, d := f.find(r.PathValue("id"))
	switch {
	case d == nil:
		Error(w, http.StatusNotFound, 8000009, "Deployment not found")
	case r.FormValue("force") != "true":
		Error(w, http.StatusBadRequest, 8000035, "Cannot delete an aliased deployment without force=true")
	default:
		f.Deployments = append(f.Deployments[:i:i], f.Deployments[i+1:]...)
		answer(w, nil)
	}
}

func (f *Fake) logs(w http.ResponseWriter, _ *http.Request) {
	defer f.Lock()()
	lines := []any{}
	for _, line := range f.Log {
		lines = append(lines, map[string]any{"ts": time.Now(), "line": line})
	}
	answer(w, map[string]any{"data": lines})
}
