package httpapi

import (
	"math"
	"net/http"
	"net/url"
	"strconv"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/query"
)

// The parameters that say where a cursor begins; a request has one of them at most.
var (
	cursorParam = query.Int{Name: "lastEventId", Min: 0, Max: math.MaxInt64, Default: 0, Doc: "The id of the last event that was seen: the answer begins after it. 0, or no cursor: with the first event that is kept. last_event_id is the same."}
	fromParam   = query.String{Name: "from", Enum: []string{"latest"}, Doc: "latest: only events that are appended from now on. Not together with another cursor."}
	tailParam   = query.Int{Name: "tail", Min: 1, Max: buildcast.MaxTail, Default: 0, Doc: "Begin with the last so many events. Not together with another cursor."}

	// cursorAlias is another spelling that clients use.
	cursorAlias = query.Int{Name: "last_event_id", Max: math.MaxInt64}
)

// aliases are the second spellings of parameters.
var aliases = map[string]string{cursorParam.Name: cursorAlias.Name}

var cursorParams = []query.Param{cursorParam, fromParam, tailParam}

// lastEventIDHeader wins over all parameters: an EventSource that reconnects sends
// the newest id there, and its first URL again.
const lastEventIDHeader = "Last-Event-ID"

// readStart reads where the cursor of one build begins.
func readStart(q url.Values) (start buildcast.Start, err error) {
	if err := oneCursor(q); err != nil {
		return start, err
	}
	cursor := cursorParam
	if !q.Has(cursor.Name) {
		cursor = cursorAlias
	}
	if start.After, err = cursor.Read(q); err != nil {
		return start, err
	}
	return readEnd(q, start)
}

// readEnd reads from and tail.
func readEnd(q url.Values, start buildcast.Start) (buildcast.Start, error) {
	from, err := fromParam.Read(q)
	if err != nil {
		return start, err
	}
	start.Latest = from != ""
	start.Tail, err = tailParam.Read(q)
	return start, err
}

// oneCursor refuses requests that name several places: none of them is sure to be
// the one that is meant.
func oneCursor(q url.Values) error {
	given := ""
	for _, name := range []string{cursorParam.Name, fromParam.Name, tailParam.Name} {
		if q.Get(name) == "" && (name != cursorParam.Name || q.Get(cursorAlias.Name) == "") {
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
		q, err := query.Of(r)
		if err != nil {
			return start, err
		}
		return readStart(q)
	}
	start.After, err = strconv.ParseInt(header, 10, 64)
	if err != nil || start.After < 0 {
		return start, buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use 0 or the id of the last event that was seen", lastEventIDHeader, problem.Quote(header)).At(cursorParam.Name)
	}
	return start, nil
}
