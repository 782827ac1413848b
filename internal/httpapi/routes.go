package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventjson"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/cacheapi"
	"github.com/buildcast/buildcast/internal/httpapi/cleanupapi"
	"github.com/buildcast/buildcast/internal/httpapi/fileapi"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/query"
	"github.com/buildcast/buildcast/internal/httpapi/schema"
	"github.com/buildcast/buildcast/internal/httpapi/webhookapi"
)

const about = `Every build has one log of events with ids 1, 2, 3, … without gaps. Append events to it; follow it by asking for what comes after the last id you have seen. An append is answered when it is durable, and an event with a key is stored once, however often it is sent.`

// describe begins the OpenAPI document. It serves neither the document nor
// pages of huma's own: those load scripts from other hosts.
func describe(version, server string) huma.Config {
	c := huma.DefaultConfig("buildcast", version)
	c.Servers = []*huma.Server{{URL: server}}
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	c.AllowAdditionalPropertiesByDefault = true // answers may grow fields
	c.Info.Description = about
	c.Info.License = &huma.License{Name: "MIT", Identifier: "MIT"}
	c.Info.Contact = &huma.Contact{Name: "The buildcast authors"}
	c.Security = []map[string][]string{{}} // unless an operation says otherwise
	c.Tags = []*huma.Tag{
		{Name: "builds", Description: "What is built, and where it stands."},
		{Name: "events", Description: "Append to a build's log, and follow it."},
		{Name: "cache", Description: "What builds have made and others need not make again. All of it needs a key if the server has keys."},
		{Name: "webhooks", Description: "Endpoints that events are sent to. All of it needs a key if the server has keys."},
		{Name: "server", Description: "The state of the server itself."},
	}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key": {Type: "http", Scheme: "bearer", Description: "An API key. Needed to write, and for all of webhooks and cache, if the server has keys; reading builds is open."},
	}
	c.Extensions = map[string]any{"x-problem-codes": problem.Codes}
	schema.Alias(c.Components.Schemas)
	return c
}

func (a *api) routes() {
	a.buildRoutes()
	a.planRoutes()
	fileapi.Add(&a.bodies, a.doc, a.handle)
	a.eventRoutes()
	cacheapi.Add(cacheapi.Config{Cache: a.Cache, Bodies: &a.bodies}, a.doc, a.handle)
	cleanupapi.Add(cleanupapi.Config{Cleanup: a.Cleanup, Bodies: &a.bodies, Logger: a.Logger}, a.doc, a.handle)
	webhookapi.Add(webhookapi.Config{Webhooks: a.Webhooks, Bodies: &a.bodies, Prefix: a.Prefix}, a.doc, a.handle)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: "/api/server", OperationID: "getServer", Tags: []string{"server"},
		Summary: "What can the server do?", Description: "Which planners and targets builds may name, and how commands run.",
		Responses: a.doc.Answers(openapi.Answer[Abilities](http.StatusOK, "What it is set up for."), openapi.Problems(buildcast.InvalidArgument)),
	}, a.getServer)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: "/healthz", OperationID: "healthz", Tags: []string{"server"},
		Summary: "Is the server alive?", Description: "It asks nothing else, so a store that is away does not get the server restarted.",
		Responses: a.doc.Answers(openapi.Answer[health](http.StatusOK, "It is."), openapi.Problems(buildcast.InvalidArgument)),
	}, a.healthz)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: "/readyz", OperationID: "readyz", Tags: []string{"server"},
		Summary: "Can the server take work?", Description: "It can if it is not about to stop and its store can write. The store is asked once a second at most.",
		Responses: a.doc.Answers(openapi.Answer[health](http.StatusOK, "It can."), readProblems),
	}, a.readyz)
	schema.Complete(a.doc.Schemas())
}

func (a *api) buildRoutes() {
	const one = "/api/builds/{id}"
	tags := []string{"builds"}
	a.handle(&huma.Operation{
		Method: http.MethodPost, Path: "/api/builds", OperationID: "createBuild", Tags: tags, Security: openapi.NeedsKey,
		Summary:     "Create a build",
		Description: "With a plan, or a prompt that a planner makes one of, the build is queued and run. With neither, it is an external build that others report on; appending events to an unknown id starts one too. Unknown fields are refused.",
		Parameters: []*huma.Param{{
			Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "The same key again returns the build that it made.",
		}},
		RequestBody: openapi.Body(false, openapi.Content[newBuild](a.doc, body.JSON)),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Build](http.StatusCreated, "The build was created; Location is its address."),
			openapi.Answer[buildcast.Build](http.StatusOK, "The identical build is there already."),
			openapi.Problems(buildcast.InvalidArgument, buildcast.Conflict, buildcast.NoPlanner), openapi.WriteProblems),
	}, a.createBuild)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: "/api/builds", OperationID: "listBuilds", Tags: tags,
		Summary: "List builds, the newest first", Description: "Statuses only; each filter narrows the list. Pages follow by before.", Parameters: query.Describe(statusParam, projectParam, textParam, buildsParam, beforeParam),
		Responses: a.doc.Answers(openapi.Answer[builds](http.StatusOK, "One page of them."), unchanged, readProblems),
	}, a.listBuilds)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: one, OperationID: "getBuild", Tags: tags,
		Summary: "Get a build: what was asked for, and where it stands", Description: "With its plan, if it has one. The ETag changes when the log grows.", Parameters: inPath(),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Build](http.StatusOK, "The build."), unchanged, readProblems, openapi.Problems(buildcast.NotFound)),
	}, a.getBuild)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: one + "/status", OperationID: "getStatus", Tags: tags,
		Summary: "Get where a build stands", Description: "The fold of its log. The ETag changes when the log grows.", Parameters: inPath(),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Status](http.StatusOK, "The status."), unchanged, readProblems, openapi.Problems(buildcast.NotFound)),
	}, a.getStatus)
	a.handle(&huma.Operation{
		Method: http.MethodPost, Path: one + "/cancel", OperationID: "cancelBuild", Tags: tags, Security: openapi.NeedsKey,
		Summary: "Cancel a build", Description: "Appends build_cancelled; whoever runs the build stops its work.", Parameters: inPath(),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Status](http.StatusAccepted, "The build is cancelled, and its work stops within a second."),
			openapi.Answer[buildcast.Status](http.StatusOK, "The build had finished before; nothing was changed."),
			openapi.Problems(buildcast.InvalidArgument, buildcast.NotFound), openapi.WriteProblems),
	}, a.cancelBuild)
	a.retryRoute(one + "/retry")
	a.handle(&huma.Operation{
		Method: http.MethodDelete, Path: one, OperationID: "deleteBuild", Tags: tags, Security: openapi.NeedsKey,
		Summary: "Delete a finished build and its log", Description: "Its id stays taken: events that are appended under it later have higher ids.", Parameters: inPath(),
		Responses: a.doc.Answers(openapi.Empty(http.StatusNoContent, "It is gone."),
			openapi.Problems(buildcast.InvalidArgument, buildcast.NotFound, buildcast.NotFinished), openapi.WriteProblems),
	}, a.deleteBuild)
}

const eventsRoute = "/api/builds/{id}/events"

func (a *api) eventRoutes() {
	const path = eventsRoute
	tags := []string{"events"}
	event := openapi.Content[buildcast.NewEvent](a.doc, body.JSON)
	most := eventjson.MaxEvents
	// Named, because oapi-codegen loses the content of a choice that is not.
	a.doc.Schemas().Map()["NewEvents"] = &huma.Schema{
		Description: "One event, or several in their order",
		OneOf:       []*huma.Schema{event[body.JSON].Schema, {Type: huma.TypeArray, Items: event[body.JSON].Schema, MaxItems: &most}},
	}
	events := &huma.Schema{Ref: "#/components/schemas/NewEvents"}
	a.handle(&huma.Operation{
		Method: http.MethodPost, Path: path, OperationID: "appendEvents", Tags: tags, Security: openapi.NeedsKey,
		Summary: "Append events to a build's log",
		Description: "One event, an array of at most 1,000, or a stream of one event a line, of any length. A stream's lines are stored as they come; its answer comes at its end. " +
			"Blank lines are passed over and keep a quiet stream open. An unknown build id starts an external build. An event's data is at most 64 KiB of JSON.",
		Parameters: inPath(),
		RequestBody: openapi.Body(true, map[string]*huma.MediaType{
			body.JSON: {Schema: events, Example: map[string]any{"type": "task_started", "data": map[string]any{"taskName": "compile"}, "key": "compile:started"}},
			body.NDJSON: {
				Schema:  &huma.Schema{Type: huma.TypeString, Description: "One event a line, each as in application/json"},
				Example: "{\"type\":\"build_log\",\"data\":{\"line\":\"one\"}}\n{\"type\":\"build_log\",\"data\":{\"line\":\"two\"}}\n",
			},
		}),
		Responses: a.doc.Answers(openapi.OneOf[appended, streamed](http.StatusCreated, "The events are durable. The second form answers a stream."),
			openapi.Answer[streamed](http.StatusOK, "The stream held no events."),
			openapi.Problems(buildcast.InvalidArgument, problem.TimedOut), openapi.WriteProblems),
	}, a.appendEvents)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: "pollEvents", Tags: tags,
		Summary: "Get the events after a cursor, and wait for them if asked to",
		Description: "A build that does not exist yet, or no longer, has no events: that is not an error. A cursor beyond the log's end is an error (cursor_ahead), and so is one whose next event is no longer kept (cursor_gone): go on from firstEventId - 1. " +
			"A page ends at limit or about 4 MiB. Full pages are cacheable; the others have an ETag. While too much is being sent to other clients the answer is overloaded: try again after Retry-After.",
		Parameters: append(inPath(), query.Describe(append(cursorParams, limitParam, waitParam)...)...),
		Responses: a.doc.Answers(openapi.Answer[page](http.StatusOK, "The events, oldest first; the page may be empty. With Accept: text/event-stream, a stream as of streamEvents."), orStream, over, unchanged, readProblems,
			openapi.Problems(buildcast.CursorAhead, buildcast.CursorGone, buildcast.Overloaded)),
	}, a.pollEvents)
	a.streamRoutes(tags)
}

func (a *api) streamRoutes(tags []string) {
	events := func(d openapi.Document, to map[string]*huma.Response) {
		to["200"] = &huma.Response{
			Description: "event: begin for each build, whose data are buildId, after (its cursor), firstEventId, lastEventId and status (null: there is no such build yet); " +
				"an id and data line for each event; event: end after the last one of a finished build, with its status; event: problem, with a problem as its data, before a stream that ends because events after its cursor are no longer kept; a comment every 15 s.",
			Content: map[string]*huma.MediaType{eventStream: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}
	}
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: "/events/{id}", OperationID: "streamEvents", Tags: tags,
		Summary: "Follow a build as server-sent events",
		Description: "First the events after the cursor, then those that come. The Last-Event-ID header wins over all parameters. " +
			"The poll's address answers Accept: text/event-stream in the same way. HEAD answers with the headers at once.",
		Parameters: append(inPath(), query.Describe(cursorParams...)...),
		Responses:  a.doc.Answers(events, over, readProblems, openapi.Problems(buildcast.CursorAhead, buildcast.CursorGone)),
	}, a.streamEvents)
	a.handle(&huma.Operation{
		Method: http.MethodGet, Path: "/events", OperationID: "streamMany", Tags: tags,
		Summary:     "Follow several builds on one stream",
		Description: "Ids name all cursors, such as a:7,b:3, and are sent back as they are, as Last-Event-ID or lastEventId. from and tail are for each of the builds.",
		Parameters: append([]*huma.Param{{
			Name: "build", In: "query", Required: true, Description: "A build's id; repeat it for each, 20 at most.",
			Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}},
		}, {
			Name: cursorParam.Name, In: "query", Description: "The last id that was seen, such as a:7,b:3; builds that it does not name begin with the first event that is kept.",
			Schema: &huma.Schema{Type: huma.TypeString},
		}}, query.Describe(fromParam, tailParam)...),
		Responses: a.doc.Answers(events, over, readProblems, openapi.Problems(buildcast.CursorAhead, buildcast.CursorGone)),
	}, a.streamMany)
}

func inPath() []*huma.Param {
	return []*huma.Param{{
		Name: "id", In: "path", Required: true, Description: "The build's id.",
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]{1,26}$"},
	}}
}

// orStream adds the stream that a poll becomes if its client asks for one.
func orStream(_ openapi.Document, to map[string]*huma.Response) {
	to["200"].Content[eventStream] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
}

const eventStream = "text/event-stream"

var (
	over         = openapi.Empty(http.StatusNoContent, "The build is finished and nothing comes after the cursor: a stream has nothing to send.")
	unchanged    = openapi.Empty(http.StatusNotModified, "It is what If-None-Match names.")
	readProblems = openapi.Problems(buildcast.InvalidArgument, buildcast.StoreUnavailable)
)
