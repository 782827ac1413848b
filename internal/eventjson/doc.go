// Package eventjson reads events from JSON: one, an array of them, or one a line.
//
// It is strict. A name that an event does not have, a name that comes twice, bytes
// that are not UTF-8 and half a surrogate pair are errors: a decoder that replaces
// them makes two different keys the same. Errors are *buildcast.Error; those of the
// JSON itself say the line, the column and, if it is known, the field.
//
// Reading is jsontext's. The events share the memory of what was read: it must not be
// changed afterwards.
package eventjson
