// Package webhooksig signs and verifies webhooks, for receivers written in Go.
//
// Each request that buildcast sends carries two signatures, made from one secret:
//
//   - webhook-signature, as [Standard Webhooks] 1.0.0 has it: HMAC-SHA256 over the
//     id, the time and the body. Verify checks it, as any of its libraries does.
//   - X-Webhook-Signature: HMAC-SHA256 over the body, in hex. VerifyBody checks it.
//
// A secret is whsec_ with the base64 of its key, or a plain text. The first
// signature is keyed with the decoded bytes, or the plain text's; the second with
// the text as it is written, whsec_ and all.
//
// The package needs nothing but the standard library.
//
// [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks
package webhooksig
