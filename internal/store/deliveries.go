package store

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/buildcast/buildcast"
)

// NoEndpoint is the error for an endpoint that is not there.
func NoEndpoint(id string) error {
	return buildcast.Errorf(buildcast.NotFound, "there is no endpoint %.40q", id)
}

// EndpointChanged is the error for an endpoint that somebody else has changed.
func EndpointChanged(id string) error {
	return buildcast.Errorf(buildcast.Conflict, "endpoint %s has been changed by somebody else meanwhile: look at it, and try again", id)
}

// NoEvent is the error for an event that is not there.
func NoEvent(buildID string, id int64) error {
	return buildcast.Errorf(buildcast.NotFound, "build %s has no event %d", buildID, id)
}

// DeliveryPlace is a place in the list of deliveries. Its text holds ids, which
// have no dots.
type DeliveryPlace struct {
	Created             int64 // unix milliseconds
	BuildID, EndpointID string
	EventID             int64
}

func (p DeliveryPlace) String() string {
	return fmt.Sprintf("%d.%s.%d.%s", p.Created, p.BuildID, p.EventID, p.EndpointID)
}

// ParseDeliveryPlace reads the form of String.
func ParseDeliveryPlace(text string) (p DeliveryPlace, err error) {
	parts := strings.Split(text, ".")
	if len(parts) == 4 {
		p.BuildID, p.EndpointID = parts[1], parts[3]
		p.EventID, err = strconv.ParseInt(parts[2], 10, 64)
		if err == nil {
			p.Created, err = strconv.ParseInt(parts[0], 10, 64)
		}
	}
	if len(parts) != 4 || err != nil {
		return p, buildcast.Errorf(buildcast.InvalidArgument, "before: it is not a place in this list: use the next of the page before").At("before")
	}
	return p, nil
}

// PageOfDeliveries makes a page of up to limit of what was read, which is one more
// where there are more.
func PageOfDeliveries(read []buildcast.Delivery, limit int) DeliveryPage {
	if len(read) <= limit {
		return DeliveryPage{Deliveries: read}
	}
	last := &read[limit-1]
	return DeliveryPage{Deliveries: read[:limit], Next: DeliveryPlace{
		Created: last.CreatedAt.Std().UnixMilli(), BuildID: last.BuildID, EventID: last.EventID, EndpointID: last.EndpointID,
	}.String()}
}
