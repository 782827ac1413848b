// Package fileapi is the part of the REST API that reads plan files for those who cannot
// read YAML themselves, such as the dashboard.
package fileapi

import (
	"cmp"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
	"github.com/buildcast/buildcast/internal/httpapi/query"
	"github.com/buildcast/buildcast/internal/planfile"
)

const (
	maxName     = 200 // bytes
	defaultName = "plan.yaml"
)

// planFile is a plan file in the body of a request.
type planFile struct {
	Name    string   `json:"name,omitempty" maxLength:"200" doc:"What errors call the file; absent means plan.yaml"`
	Content string   `json:"content" minLength:"1" doc:"The text of the file, YAML or JSON, at most 1 MiB"`
	_       struct{} `additionalProperties:"false"`
}

// valid is a plan file that was read and checked.
type valid struct {
	Plan *buildcast.Plan `json:"plan"`
}

// Add adds the route to the document. handle serves an operation, with what all
// operations have in common.
func Add(bodies *body.Bodies, doc openapi.Document, handle func(op *huma.Operation, serve func(http.ResponseWriter, *http.Request) error)) {
	asked := openapi.Content[planFile](doc, body.JSON)
	asked[body.JSON].Example = map[string]any{"name": "plan.yaml", "content": "name: site\nbuild: npm run build\n"}
	handle(&huma.Operation{
		Method: http.MethodPost, Path: "/api/plans/validate", OperationID: "validatePlan", Tags: []string{"builds"}, Security: openapi.NeedsKey,
		Summary: "Read a plan file and check it, and run nothing",
		Description: "A problem's detail has a line for each mistake, with its line and column in the file; its field is that of the first. " +
			"Files that the plan would take from beside the plan file, with from:, are refused: `buildcast build` sends them.",
		RequestBody: openapi.Body(true, asked),
		Responses: doc.Answers(openapi.Answer[valid](http.StatusOK, "The plan, as POST /api/builds takes it."),
			openapi.Problems(buildcast.InvalidArgument), openapi.WriteProblems),
	}, func(w http.ResponseWriter, r *http.Request) error {
		var file planFile
		if err := bodies.Decode(w, r, &file); err != nil {
			return err
		}
		if file.Content == "" {
			return buildcast.Errorf(buildcast.InvalidArgument, "content is missing: send the text of the plan file").At("content")
		}
		if err := query.ValidateText(file.Name, maxName, "name"); err != nil {
			return err
		}
		plan, err := planfile.Parse([]byte(file.Content), cmp.Or(file.Name, defaultName), nil)
		if err != nil {
			return err
		}
		w.Header().Set("Cache-Control", "no-store")
		return body.SendJSON(w, http.StatusOK, valid{plan})
	})
}
