// Package openapi describes the bodies and answers of operations in the OpenAPI
// document.
package openapi

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

// Document is the document that operations are added to.
type Document struct{ *huma.OpenAPI }

// Schemas are the document's schemas, by the names of their types.
func (d Document) Schemas() huma.Registry { return d.Components.Schemas }

// NeedsKey is the Security of operations that need a key if the server has keys.
var NeedsKey = []map[string][]string{{"key": {}}, {}}

// Body describes the body of a request.
func Body(required bool, c map[string]*huma.MediaType) *huma.RequestBody {
	return &huma.RequestBody{Required: required, Content: c}
}

// Content describes a body of the type, with a schema made from the Go type.
func Content[T any](d Document, mediaType string) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{mediaType: {Schema: d.Schemas().Schema(reflect.TypeFor[T](), true, "")}}
}

// A Reply adds one or more answers to an operation's.
type Reply func(d Document, to map[string]*huma.Response)

// Answers describes all answers of an operation.
func (d Document) Answers(replies ...Reply) map[string]*huma.Response {
	all := make(map[string]*huma.Response)
	for _, add := range replies {
		add(d, all)
	}
	return all
}

// Answer is a JSON answer of the type.
func Answer[T any](status int, what string) Reply {
	return func(d Document, to map[string]*huma.Response) {
		to[strconv.Itoa(status)] = &huma.Response{Description: what, Content: Content[T](d, body.JSON)}
	}
}

// OneOf is a JSON answer of either type.
func OneOf[T, U any](status int, what string) Reply {
	return func(d Document, to map[string]*huma.Response) {
		schema := &huma.Schema{OneOf: []*huma.Schema{Content[T](d, body.JSON)[body.JSON].Schema, Content[U](d, body.JSON)[body.JSON].Schema}}
		to[strconv.Itoa(status)] = &huma.Response{Description: what, Content: map[string]*huma.MediaType{body.JSON: {Schema: schema}}}
	}
}

// Empty is an answer without a body.
func Empty(status int, what string) Reply {
	return func(_ Document, to map[string]*huma.Response) {
		to[strconv.Itoa(status)] = &huma.Response{Description: what}
	}
}

// Problems adds error answers, with the codes that each status may carry.
func Problems(may ...buildcast.Code) Reply {
	return func(d Document, to map[string]*huma.Response) {
		for _, code := range may {
			for _, c := range problem.Codes {
				if c.Code != code {
					continue
				}
				status := strconv.Itoa(c.Status)
				if to[status] != nil && strings.Contains(to[status].Description, string(c.Code)+": ") {
					continue
				}
				if to[status] == nil {
					to[status] = &huma.Response{Content: Content[problem.Problem](d, "application/problem+json")}
				} else {
					to[status].Description += " "
				}
				to[status].Description += string(c.Code) + ": " + c.Title + "."
			}
		}
	}
}

// WriteProblems are what most operations that write may answer with.
var WriteProblems = Problems(buildcast.Unauthenticated, buildcast.PermissionDenied, buildcast.TooLarge, problem.UnsupportedMediaType, buildcast.Overloaded, buildcast.StoreUnavailable)
