package httpapi

import (
	"net/http"
	"strconv"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventjson"
	"github.com/buildcast/buildcast/internal/httpapi/body"
)

// appendEvents stores events at the end of a build's log, and answers after
// they are durable.
func (a *api) appendEvents(w http.ResponseWriter, r *http.Request) error {
	id, err := a.buildID(r)
	if err != nil {
		return err
	}
	kind, err := body.TypeOf(r)
	if err != nil {
		return err
	}
	switch kind {
	case body.NDJSON:
		return a.appendStream(w, r, id)
	case body.JSON:
		return a.appendBody(w, r, id)
	}
	return buildcast.Errorf(buildcast.InvalidArgument, "there is no body: send an event, an array of events, or a stream of them")
}

// appended is the answer to an append of one body.
type appended struct {
	BuildID     string  `json:"buildId"`
	IDs         []int64 `json:"ids" doc:"Of the events, in the order they were sent; a key that is stored already has the id of its event"`
	LastEventID int64   `json:"lastEventId" doc:"The last id of the log"`
}

func (a *api) appendBody(w http.ResponseWriter, r *http.Request, id string) error {
	text, err := a.bodies.Read(w, r)
	if err != nil {
		return err
	}
	events, err := eventjson.Decode(text)
	if err != nil {
		return err
	}
	stored, err := a.Log.Append(r.Context(), id, 0, events...)
	if err != nil {
		return err
	}
	b := make([]byte, 0, 80+8*len(stored.Events))
	b = append(b, `{"buildId":"`...) // ids need no escaping
	b = append(b, id...)
	b = append(b, `","ids":[`...)
	for i := range stored.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, stored.Events[i].ID, 10)
	}
	b = append(b, `],"lastEventId":`...)
	b = strconv.AppendInt(b, stored.Status.LastEventID, 10)
	b = append(b, '}')
	body.Send(w, http.StatusCreated, body.JSON, b)
	return nil
}
