// Package deploy holds what the deploy targets have in common: what is deployed, how
// far that has come, and what it became.
package deploy

// Site is what is to be deployed.
type Site struct {
	BuildID string
	Project string // empty: the build has none
	Dir     string // the output directory
	// Production asks for the address that the site is known by, and not for a preview.
	Production bool
}

// Progress is how far a deploy has come. Targets that cannot tell leave the numbers 0.
type Progress struct {
	Message         string
	Percent         int // of the deploy, 0-100
	Uploaded, Total int // files
	// Output are lines that a program printed. If there are any, nothing else is set.
	Output []string
}

// Branch is the branch that a build is deployed to by targets that have branches.
func Branch(buildID string) string { return "build-" + buildID }

// Deployment is where a build can be seen.
type Deployment struct {
	URL string
	// Ref is what a clean-up needs to remove it; empty if the URL is enough.
	Ref string
}
