// Package cloudflare is the deploy target cloudflare: it uploads a build's output to
// Cloudflare Pages over the REST API (direct upload), one branch a build.
//
// A deployment is made in this order: the project (created if it is absent), a token
// for uploads, the hashes of all files, the question which of them the service lacks,
// the upload of those, and the deployment itself, which is watched until its last
// stage ends. A repeat for the same build uploads what is still missing, and takes over
// the deployment if an earlier attempt made it of the same files.
//
// Memory is bounded: file contents are read when they are hashed and again when they
// are sent, and are never held as a whole.
package cloudflare
