package httpapi

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
)

// The nouns import nothing of huma's, so these stand for those that encode
// themselves.
type (
	timeSchema     struct{}
	durationSchema struct{}
	fileSchema     struct{}
	phaseSchema    struct{}
)

func (timeSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2026-11-23T07:14:31.123Z"}}
}

func (durationSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{"90s", "5m"}}
}

func (fileSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString, Description: "The content"},
		{Type: huma.TypeObject, Required: []string{"base64"}, Properties: map[string]*huma.Schema{
			"base64": {Type: huma.TypeString, Description: "The content, where it is not UTF-8"},
		}},
	}}
}

func (phaseSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: statusParam.describe().Schema.Enum}
}

func aliasNouns(schemas huma.Registry) {
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.Time](), reflect.TypeFor[timeSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.Duration](), reflect.TypeFor[durationSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.File](), reflect.TypeFor[fileSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.Phase](), reflect.TypeFor[phaseSchema]())
}

// nouns says what reflection cannot: the root package has no documentation tags.
var nouns = map[string]map[string]string{
	"Event": {
		"id":        "1, 2, 3, … within the build, without gaps",
		"type":      "Such as task_started; buildcast knows some types, and keeps them all",
		"data":      "What was sent",
		"progress":  "Of the build after this event, 0-100; it never falls",
		"timestamp": "When it happened",
	},
	"NewEvent": {
		"type":      "Such as task_started",
		"data":      "Any JSON value of at most 64 KiB; absent or null means {}",
		"key":       "Unique in the build: the same key again gives the event that is stored",
		"timestamp": "When it happened; absent means when it is stored",
	},
	"Status": {
		"status":      "Where the build stands; the last three are final",
		"progress":    "0-100; it never falls",
		"message":     "What the build is doing, for people",
		"previewUrl":  "Where the result is to be seen; empty until it is deployed",
		"error":       "Why it failed; empty unless it did",
		"startedAt":   "Of the first event",
		"updatedAt":   "Of the last event that changed the status",
		"finishedAt":  "Of the event that ended the build",
		"lastEventId": "Of the log, whose fold this is",
	},
	"Plan": {
		"install": "A shell command, run after the tasks",
		"build":   "A shell command, run after install",
		"timeout": "Of install and build each; 10m where it is absent",
		"output":  "The directory that is deployed; all of the workspace where it is absent",
		"deploy":  "The target: local (where it is absent) or none",
	},
	"Task": {
		"needs":   "Names of the tasks that must be completed first",
		"files":   "Written to the workspace, by path",
		"run":     "A shell command, run in the workspace after the files are written",
		"retries": "How often it is tried again after a failure",
		"timeout": "Of one attempt; 10m where it is absent",
	},
}

// describeNouns completes the schemas, after all of them were made.
func (a *api) describeNouns() {
	all := a.schemas().Map()
	for name, fields := range nouns {
		for field, text := range fields {
			all[name].Properties[field].Description = text
		}
	}
	for _, s := range all {
		for _, field := range s.Properties {
			neverNull(field)
		}
	}
	for _, field := range []string{"startedAt", "finishedAt"} {
		all["Status"].Properties[field].Nullable = true
	}
	// A plan may be no more than a build command.
	all["Plan"].Required = []string{"name"}
	all["Plan"].Properties["tasks"].Nullable = true
	e := all["NewEvent"]
	e.AdditionalProperties = false // the scanner refuses what it does not know
	e.Properties["type"].Pattern = `^[a-z][a-z0-9_.-]{0,49}$`
	longest := buildcast.MaxEventKey
	e.Properties["key"].MaxLength = &longest
}

// neverNull takes back what huma assumes of slices: empty ones are encoded as [].
func neverNull(s *huma.Schema) {
	for ; s != nil && s.Type == huma.TypeArray; s = s.Items {
		s.Nullable = false
	}
}
