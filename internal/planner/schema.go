package planner

import (
	_ "embed"
	"encoding/json"
)

// The JSON schemas of what planners read and write. They keep to the subset that
// models' structured output takes: no recursion, no maps with free keys, no bounds of
// lengths and numbers.
var (
	//go:embed request.schema.json
	RequestSchema json.RawMessage
	//go:embed plan.schema.json
	PlanSchema json.RawMessage
	//go:embed files.schema.json
	FilesSchema json.RawMessage
)

// SchemaOf returns the schema of an answer.
func SchemaOf(p Purpose) json.RawMessage {
	if p == ForFiles {
		return FilesSchema
	}
	return PlanSchema
}
