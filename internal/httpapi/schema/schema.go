// Package schema completes the OpenAPI schemas of the nouns: the root package has no
// documentation tags, and imports nothing of huma's.
package schema

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
	return &huma.Schema{Type: huma.TypeString, Enum: phases}
}

// Alias lets other types stand for the nouns that encode themselves. It comes before
// any schema is made.
func Alias(schemas huma.Registry) {
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.Time](), reflect.TypeFor[timeSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.Duration](), reflect.TypeFor[durationSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.File](), reflect.TypeFor[fileSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[buildcast.Phase](), reflect.TypeFor[phaseSchema]())
}

// Nouns describes what reflection cannot: the root package has no documentation tags.
var Nouns = map[string]map[string]string{
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
		"key":       "Unique in the build: the same key again returns the event that is stored. It may not begin with " + buildcast.ReservedKeyPrefix,
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
		"deploy":  "The target: local (where it is absent), cloudflare, command or none",
		"detect":  "Find what is left out of install, build and output in the files that the workspace has after the tasks",
		"env":     "Variables of all commands; they may end up in output and caches",
		"secrets": "Names of secrets that the server keeps, and gives to all commands as variables; their values are masked in output",
		"network": "Whether build may use the network as far as the server allows it; install always may",
	},
	"Task": {
		"needs":   "Names of the tasks that must be completed first",
		"files":   "Written to the workspace, by path",
		"run":     "A shell command, run in the workspace after the files are written",
		"retries": "How often it is tried again after a failure",
		"timeout": "Of one attempt; 10m where it is absent",
		"prompt":  "Asks the build's planner for files, which are written after those of files",
		"outputs": "Files and directories that the task makes; a task that names them is cached",
		"inputs":  "Files and directories that the task reads; absent means all of the workspace but outputs",
		"env":     "Variables of this task's command",
		"secrets": "Names of secrets that this task's command gets as variables",
		"network": "Whether the command may use the network as far as the server allows it; such a task is not cached",
	},
	"Build": {
		"prompt":    "What a planner makes the plan of; absent if the plan was given",
		"plan":      "What is run; absent for an external build, and until the planner has made it",
		"deploy":    "The target; absent means the plan's own",
		"planner":   "Who is asked with prompts; absent means the server's default",
		"noCache":   "Whether it runs everything, and reads nothing from the cache",
		"retryOf":   "The build that this one repeats",
		"retryFrom": "Where the repetition begins: failed (what was completed is taken over) or start",
	},
	"Endpoint": { //nolint:gosec // it describes secrets, and holds none
		"types":               "The event types that are sent, with * for any run of characters; empty: all",
		"builds":              "Ids of builds whose events are sent; with projects empty too: all builds",
		"projects":            "Projects whose builds' events are sent, beside those of builds",
		"headers":             "Sent with each request; their values are not shown",
		"rateLimit":           "The most requests a second from one server; 0: no limit",
		"timeoutMs":           "Of one attempt, from the DNS query to the end of the answer",
		"ordering":            "What becomes of a build's later events while one is retried: they go on (normal), or wait (strict)",
		"payload":             "Whether a request holds the event's data (full) or not (thin)",
		"disabledReason":      "Why it is not enabled, where it is the receiver's doing",
		"secret":              "Signs the requests; only in the answer that made it",
		"previousSecretUntil": "Until then the secret before signs as well",
	},
	"EndpointChange": { //nolint:gosec // likewise
		"url":    "Where events are sent; needed for a new endpoint",
		"secret": "Only for a new endpoint; made where it is absent",
	},
	"Breaker": {
		"state":    "Events are sent (closed), wait (open), or one is being tried (half_open)",
		"failures": "How many probes have failed since it opened",
		"reason":   "The failure that opened it, or the last probe's",
	},
	"Attempt": {
		"status":   "Of the answer; 0: there was none, and error says why",
		"response": "The beginning of the answer's body",
	},
	"Delivery": {
		"tries":    "How many attempts count against the schedule",
		"attempts": "The latest, the oldest first",
		"retryAt":  "When it is tried next, while it is retrying",
	},
	"EndpointStatus": {
		"backlog": "Events that wait for the endpoint; some may be of types that it does not take",
		"cursors": "How many builds they are of",
		"windows": "By span up to now: 1h, 24h and 7d",
	},
	"DeliveryWindow": {
		"delivered": "Events",
		"failed":    "Attempts",
		"success":   "The share of attempts that were answered with 2xx, 0 to 1; null where there was none",
		"p50Ms":     "How long half of the answers took at most, to within a fifth; null where there was none",
	},
	"LogStatus": {
		"bytes": "What the database takes up on disk",
	},
	"WebhookPayload": {
		"data": "Absent where the endpoint takes thin payloads",
	},
}

// phases are the phases of a build.
var phases = []any{buildcast.Queued, buildcast.Planning, buildcast.Executing, buildcast.Deploying, buildcast.Completed, buildcast.Failed, buildcast.Cancelled}

// enums are the values of fields whose types are no more than text to reflection.
var enums = map[string]map[string][]any{
	"Endpoint":       {"ordering": orderings, "payload": payloads},
	"EndpointChange": {"ordering": orderings, "payload": payloads},
	"Build":          {"retryFrom": {buildcast.RetryFailed, buildcast.RetryStart}},
	"Breaker":        {"state": {buildcast.BreakerClosed, buildcast.BreakerOpen, buildcast.BreakerHalfOpen}},
	"Delivery":       {"state": {buildcast.DeliveryRetrying, buildcast.DeliveryDelivered, buildcast.DeliveryDead}},
}

var (
	orderings = []any{buildcast.OrderingNormal, buildcast.OrderingStrict}
	payloads  = []any{buildcast.PayloadFull, buildcast.PayloadThin}
)

// Complete completes the schemas, after all of them were made.
func Complete(schemas huma.Registry) {
	all := schemas.Map()
	for name, fields := range Nouns {
		for field, text := range fields {
			all[name].Properties[field].Description = text
		}
	}
	for name, fields := range enums {
		for field, values := range fields {
			all[name].Properties[field].Enum = values
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
	all["EndpointChange"].AdditionalProperties = false
	// No operation uses it: oapi-codegen makes no type of such a schema, and then
	// misses it. So the webhook has it inline.
	delete(all, "WebhookPayload")
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
