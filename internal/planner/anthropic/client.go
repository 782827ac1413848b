package anthropic

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxErrorBody bounds what is read of an error's body, or of the list of models.
const maxErrorBody = 1 << 20

// apiError is an error that the API told: with a status, or inside a stream.
type apiError struct {
	status       int
	typ, message string
	requestID    string
	header       http.Header
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.typ, e.message) }

// errorBody is the JSON of an error.
type errorBody struct {
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
}

// send sends a request with the key. An answer other than 200 is an *apiError.
func (p *Planner) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(p.config.BaseURL, "/")+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	req.Header.Set("X-Api-Key", p.config.APIKey)
	resp, err := p.http.Do(req)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	var told errorBody
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = json.Unmarshal(text, &told) // a proxy's page has none
	return nil, &apiError{resp.StatusCode, told.Error.Type, told.Error.Message, resp.Header.Get("Request-Id"), resp.Header}
}

// event is the data of one event of a stream, with the fields that are read of all.
type event struct {
	Type    string `json:"type"`
	Index   int64  `json:"index"`
	Message struct {
		Model string `json:"model"`
		Usage usage  `json:"usage"`
	} `json:"message"`
	ContentBlock struct {
		Type string `json:"type"`
	} `json:"content_block"`
	Delta struct {
		Type        string `json:"type"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
		StopDetails *struct {
			Category string `json:"category"`
		} `json:"stop_details"`
	} `json:"delta"`
	Usage usage `json:"usage"`
	errorBody
}

// usage has the sums so far. Those that are absent stay as they were.
type usage struct {
	Input      *int64 `json:"input_tokens"`
	Output     *int64 `json:"output_tokens"`
	CacheRead  *int64 `json:"cache_read_input_tokens"`
	CacheWrite *int64 `json:"cache_creation_input_tokens"`
}

// events calls take for each event of the stream, until one ends it. Events of types
// that it does not know are skipped by take.
func events(r io.Reader, take func(*event) (over bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxErrorBody)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")) // each event's data is one line
		if !ok {
			continue
		}
		var e event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("%w: an event is not JSON", errCut)
		}
		if over, err := take(&e); over || err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errCut, err)
	}
	return errCut
}
