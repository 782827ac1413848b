package store

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/buildcast/buildcast"
)

// BuildJSON are the parts of a build that stores keep as JSON: nil if it has none.
type BuildJSON struct {
	Plan, Options []byte
}

// Build returns the queued build, and its parts as JSON. InvalidArgument if a store
// cannot keep one of the texts.
func (n NewBuild) Build(now buildcast.Time) (b buildcast.Build, parts BuildJSON, err error) {
	for _, text := range []struct{ field, value string }{
		{"project", n.Project},
		{"prompt", n.Prompt},
		{"deploy", n.Deploy},
		{"Idempotency-Key", n.IdempotencyKey},
		{"planner", n.Options.Planner},
		{"retryOf", n.Options.RetryOf},
		{"retryFrom", n.Options.RetryFrom},
	} {
		if strings.ContainsRune(text.value, 0) || !utf8.ValidString(text.value) {
			return b, parts, buildcast.Errorf(buildcast.InvalidArgument, "%s is not text: send UTF-8 without NUL characters", text.field).At(text.field)
		}
	}
	b = buildcast.Build{
		ID: n.ID, Project: n.Project, Prompt: n.Prompt, Plan: n.Plan, Deploy: n.Deploy, Options: n.Options,
		Status: buildcast.NewStatus(n.ID, n.Project, now), CreatedAt: now,
	}
	if n.Plan != nil {
		if parts.Plan, err = Encode(n.Plan); err != nil {
			return b, parts, err
		}
	}
	if n.Options != (buildcast.Options{}) {
		parts.Options, err = Encode(n.Options)
	}
	return b, parts, err
}

// Decode reads the plan and the options into the build.
func (j BuildJSON) Decode(b *buildcast.Build) error {
	if j.Plan != nil {
		b.Plan = new(buildcast.Plan)
		if err := Decode(j.Plan, b.Plan); err != nil {
			return err
		}
	}
	if j.Options != nil {
		return Decode(j.Options, &b.Options)
	}
	return nil
}

// Matches returns Conflict unless the existing build was created by the same request.
// The ids may differ: then the idempotency keys are the same.
func (n NewBuild) Matches(there buildcast.Build) error {
	same, err := n.samePlan(there)
	if err != nil {
		return err
	}
	if same && n.Project == there.Project && n.Prompt == there.Prompt && n.Deploy == there.Deploy && n.Options == there.Options {
		return nil
	}
	if there.ID != n.ID {
		return buildcast.Errorf(buildcast.Conflict, "build %s was made under this idempotency key with another request: use a new key", there.ID).At("Idempotency-Key")
	}
	return buildcast.Errorf(buildcast.Conflict, "build %s exists and differs: choose another id, or leave it out to get a new one", n.ID).At("id")
}

// samePlan reports whether the request asks for the plan that the build has. The plan
// of a request that has only a prompt may have been made since.
func (n NewBuild) samePlan(there buildcast.Build) (bool, error) {
	if n.Plan == nil && n.Prompt != "" {
		return true, nil
	}
	want, err := Encode(n.Plan)
	if err != nil {
		return false, err
	}
	have, err := Encode(there.Plan)
	return bytes.Equal(want, have), err
}

// TakenOver is the error for a lease whose build has been claimed again.
func TakenOver(l Lease) error {
	return buildcast.Errorf(buildcast.Fenced, "build %s has been taken over from lease %d", l.BuildID, l.Generation)
}

// NoBuild is the error for an id that no build has.
func NoBuild(id string) error {
	return buildcast.Errorf(buildcast.NotFound, "there is no build %s", id)
}

// StillRunning is the error for deleting a build that is not finished.
func StillRunning(id string) error {
	return buildcast.Errorf(buildcast.NotFinished, "build %s is not finished: cancel it first", id)
}
