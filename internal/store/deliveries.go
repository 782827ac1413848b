package store

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/buildcast/buildcast"
)

// NoEndpoint is the error for an endpoint that does not exist.
func NoEndpoint(id string) error {
	return buildcast.Errorf(buildcast.NotFound, "there is no endpoint %.40q", id)
}

// EndpointChanged is the error for an endpoint that was changed concurrently.
func EndpointChanged(id string) error {
	return buildcast.Errorf(buildcast.Conflict, "endpoint %s was changed by another request meanwhile: read it again, and repeat the change", id)
}

// NoEvent is the error for an event that does not exist, or is no longer kept.
func NoEvent(buildID string, id int64) error {
	return buildcast.Errorf(buildcast.NotFound, "build %s has no event %d", buildID, id)
}

// DeliveryPlace is a place in the list of deliveries. Dots separate the parts of its
// text, because ids have none.
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
		return p, buildcast.Errorf(buildcast.InvalidArgument, "before is not a place in this list: use the next of an earlier page, or leave it out").At("before")
	}
	return p, nil
}

// PageOfDeliveries makes a page of at most limit deliveries. read has one more than
// limit if another page follows.
func PageOfDeliveries(read []buildcast.Delivery, limit int) DeliveryPage {
	if len(read) <= limit {
		return DeliveryPage{Deliveries: read}
	}
	last := &read[limit-1]
	return DeliveryPage{Deliveries: read[:limit], Next: DeliveryPlace{
		Created: last.CreatedAt.Std().UnixMilli(), BuildID: last.BuildID, EventID: last.EventID, EndpointID: last.EndpointID,
	}.String()}
}
