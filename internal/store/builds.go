package store

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/buildcast/buildcast"
)

// Build returns the queued build, and its plan as JSON, which is nil if the build is
// external. InvalidArgument if a store cannot keep one of the texts.
func (n NewBuild) Build(now buildcast.Time) (buildcast.Build, []byte, error) {
	for _, text := range []struct{ field, value string }{
		{"project", n.Project}, {"prompt", n.Prompt}, {"deploy", n.Deploy}, {"Idempotency-Key", n.IdempotencyKey},
	} {
		if strings.ContainsRune(text.value, 0) || !utf8.ValidString(text.value) {
			return buildcast.Build{}, nil, buildcast.Errorf(buildcast.InvalidArgument, "%s is not text: send UTF-8 without NUL characters", text.field).At(text.field)
		}
	}
	b := buildcast.Build{
		ID: n.ID, Project: n.Project, Prompt: n.Prompt, Plan: n.Plan, Deploy: n.Deploy, Options: n.Options,
		Status: buildcast.NewStatus(n.ID, n.Project, now), CreatedAt: now,
	}
	if n.Plan == nil {
		return b, nil, nil
	}
	plan, err := Encode(n.Plan)
	return b, plan, err
}

// Matches returns Conflict unless the existing build was created by the same request.
// The ids may differ: then the idempotency keys are the same.
func (n NewBuild) Matches(there buildcast.Build) error {
	want, err := Encode(n.Plan)
	if err != nil {
		return err
	}
	have, err := Encode(there.Plan)
	if err != nil {
		return err
	}
	if n.Project == there.Project && n.Prompt == there.Prompt && n.Deploy == there.Deploy && n.Options == there.Options && bytes.Equal(want, have) {
		return nil
	}
	if there.ID != n.ID {
		return buildcast.Errorf(buildcast.Conflict, "build %s was made under this idempotency key with another request: use a new key", there.ID).At("Idempotency-Key")
	}
	return buildcast.Errorf(buildcast.Conflict, "build %s exists and differs: choose another id, or leave it out to get a new one", n.ID).At("id")
}

// NoBuild is the error for an id that no build has.
func NoBuild(id string) error {
	return buildcast.Errorf(buildcast.NotFound, "there is no build %s", id)
}

// StillRunning is the error for deleting a build that is not finished.
func StillRunning(id string) error {
	return buildcast.Errorf(buildcast.NotFinished, "build %s is not finished: cancel it first", id)
}
