package webhook

// What tests outside of the package know of it.
const (
	EnvironmentID = environmentID
	MaxEndpoints  = maxEndpoints
	StatusAge     = statusAge
)

var Invalid = invalid
