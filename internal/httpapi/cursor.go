package httpapi

import (
	"math"
	"net/http"
	"net/url"
	"strconv"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

// The parameters that say where a cursor begins; a request has one of them at most.
var (
	cursorParam = intParam{"lastEventId", 0, math.MaxInt64, 0, "The id of the last event that was seen: the answer begins after it. 0, or no cursor: with the first event that is kept. last_event_id is the same."}
	fromParam   = stringParam{name: "from", enum: []string{"latest"}, doc: "latest: only events that are appended from now on. Not together with another cursor."}
	tailParam   = intParam{"tail", 1, buildcast.MaxTail, 0, "Begin with the last so many events. Not together with another cursor."}

	// cursorAlias is another spelling that clients use.
	cursorAlias = intParam{name: "last_event_id", max: math.MaxInt64}
)

var cursorParams = []param{cursorParam, fromParam, tailParam}

// lastEventIDHeader wins over all parameters: an EventSource that reconnects sends
// the newest id there, and its first URL again.
const lastEventIDHeader = "Last-Event-ID"

// readStart reads where the cursor of one build begins.
func readStart(q url.Values) (start buildcast.Start, err error) {
	if err := oneCursor(q); err != nil {
		return start, err
	}
	cursor := cursorParam
	if !q.Has(cursor.name) {
		cursor = cursorAlias
	}
	if start.After, err = cursor.read(q); err != nil {
		return start, err
	}
	return readEnd(q, start)
}

// readEnd reads from and tail.
func readEnd(q url.Values, start buildcast.Start) (buildcast.Start, error) {
	from, err := fromParam.read(q)
	if err != nil {
		return start, err
	}
	start.Latest = from != ""
	start.Tail, err = tailParam.read(q)
	return start, err
}

// oneCursor refuses requests that name several places: none of them is sure to be
// the one that is meant.
func oneCursor(q url.Values) error {
	given := ""
	for _, name := range []string{cursorParam.name, fromParam.name, tailParam.name} {
		if q.Get(name) == "" && (name != cursorParam.name || q.Get(cursorAlias.name) == "") {
			continue
		}
		if given != "" {
			return buildcast.Errorf(buildcast.InvalidArgument, "%s and %s are given: a cursor has one of lastEventId, from and tail", given, name).At(name)
		}
		given = name
	}
	return nil
}

// streamStart is readStart for a stream.
func streamStart(r *http.Request) (start buildcast.Start, err error) {
	header := r.Header.Get(lastEventIDHeader)
	if header == "" {
		q, err := query(r)
		if err != nil {
			return start, err
		}
		return readStart(q)
	}
	start.After, err = strconv.ParseInt(header, 10, 64)
	if err != nil || start.After < 0 {
		return start, buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use 0 or the id of the last event that was seen", lastEventIDHeader, problem.Quote(header)).At(cursorParam.name)
	}
	return start, nil
}
