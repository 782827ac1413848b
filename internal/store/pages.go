package store

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/buildcast/buildcast"
)

// Place is where a page of builds ended: the creation time, in the store's own
// unit, and the id of its last build.
type Place struct {
	Created int64
	ID      string
}

// String is the form that Page.Next has.
func (p Place) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", p.Created, p.ID))
}

// ParsePlace reads the form of String. InvalidArgument for anything else.
func ParsePlace(s string) (Place, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	created, id, _ := strings.Cut(string(b), " ")
	n, err2 := strconv.ParseInt(created, 10, 64)
	if err != nil || err2 != nil || buildcast.ValidateBuildID(id) != nil {
		return Place{}, buildcast.Errorf(buildcast.InvalidArgument, "before is not a place in the list: use the next of the page before, or leave it out").At("before")
	}
	return Place{n, id}, nil
}
