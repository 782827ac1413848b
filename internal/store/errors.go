package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/buildcast/buildcast"
)

// Unavailable is the error of a store that cannot be reached or cannot write. It has
// stored nothing.
func Unavailable(cause error, what string) error {
	return buildcast.Errorf(buildcast.StoreUnavailable, "%s; nothing was stored, try again shortly", what).After(time.Second).Because(cause)
}

// Uncertain is the error of a store whose answer to a commit was lost.
func Uncertain(cause error, what string) error {
	return buildcast.Errorf(buildcast.StoreUnavailable, "%s; it may be stored, repeat it with the same key", what).After(time.Second).Because(cause)
}

// GivenUp is the error of a call whose context ended before the store answered.
func GivenUp(ctx context.Context) error {
	return buildcast.Errorf(buildcast.Unreachable, "the caller stopped waiting before the store answered; the call may or may not have been carried out").
		After(time.Second).Because(context.Cause(ctx))
}

// Refused is the error for a value that a database cannot store.
func Refused(cause error, field string) error {
	return buildcast.Errorf(buildcast.InvalidArgument, "%s: the database cannot store this value; leave out unusual characters and numbers", field).
		At(field).Because(cause)
}

// Encode is json.Marshal for values that are stored as JSON. An error is a defect,
// and a repeat does not help.
func Encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, buildcast.Errorf(buildcast.Internal, "%T cannot be stored as JSON", v).Because(err)
	}
	return text, nil
}

// Decode is json.Unmarshal for values that are stored as JSON. An error means that a
// row is damaged or from another version, and a repeat does not help.
func Decode(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return buildcast.Errorf(buildcast.Internal, "a stored %T cannot be read: its row is damaged, or from another version of buildcast", v).Because(err)
	}
	return nil
}
