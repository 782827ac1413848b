package buildcast

import (
	"fmt"
	"strings"
)

// CacheUsage is what a server's cache has.
type CacheUsage struct {
	Entries  []CacheEntry `json:"entries"`  // the one used last first, as many as were asked for
	Count    int          `json:"count"`    // of all entries, and of npm's packages, which are not listed
	Bytes    int64        `json:"bytes"`    // on disk, of everything
	MaxBytes int64        `json:"maxBytes"` // that it may use
}

// CacheEntry is one result that is kept.
type CacheEntry struct {
	Kind    string `json:"kind"`           // task, stage, memo (a planner's answer) or artifact (Turborepo's)
	Name    string `json:"name,omitempty"` // of the task or stage
	Project string `json:"project"`
	// Planned says that a planner had a part in what made it: only such builds read it.
	Planned    bool   `json:"planned,omitempty"`
	BuildID    string `json:"buildId,omitempty"` // which made it
	DurationMS int64  `json:"durationMs,omitempty"`
	Bytes      int64  `json:"bytes"` // of its content, as it is stored
	CreatedAt  Time   `json:"createdAt"`
	UsedAt     Time   `json:"usedAt"` // give or take an hour
}

// CachePruned is what a removal removed, and what is left.
type CachePruned struct {
	Entries      int   `json:"entries"`
	RemovedBytes int64 `json:"removedBytes"`
	Bytes        int64 `json:"bytes"` // left
}

// CacheReason says why a task or stage of a build was taken from the cache, or ran.
type CacheReason struct {
	BuildID string `json:"buildId"`
	Name    string `json:"name"` // of the task, or stage:install, stage:build
	Cached  bool   `json:"cached"`
	// OriginBuildID is the build that made what was taken.
	OriginBuildID string `json:"originBuildId,omitempty"`
	// Note says why it is not cached at all, or why its outputs were not kept.
	Note string `json:"note,omitempty"`
	// Before is the build with whose key this one was compared: the last one of the
	// project whose result is kept. Empty: there is none.
	Before string `json:"before,omitempty"`
	// Changes are the parts in which the keys differ, and More counts those left out.
	Changes []CacheChange `json:"changes"`
	More    int           `json:"more,omitempty"`
}

// The kinds of parts of a key.
const (
	CacheFile     = "file"     // an input, by its path
	CacheVariable = "variable" // of the environment, by its name
	CacheCommand  = "command"
	CacheOutputs  = "outputs"
	CachePlatform = "platform" // what runs the command: the system, the sandbox, versions of tools
	CachePart     = "part"
)

// CacheChange is a part of a key that differs from another key's.
type CacheChange struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
	// Old and New are its values; a hash if the value is not stored. Empty: there is
	// none.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// String says what has changed, such as "src/App.jsx changed".
func (c CacheChange) String() string {
	name := c.Name
	if c.Kind != CacheFile {
		name = strings.TrimSpace(c.Kind + " " + c.Name)
	}
	switch {
	case c.Old == "":
		return name + " is new"
	case c.New == "":
		return name + " no longer exists"
	case c.Kind == CachePlatform:
		return fmt.Sprintf("%s changed from %s to %s", name, c.Old, c.New)
	}
	return name + " changed"
}
