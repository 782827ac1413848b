//go:build !linux

package runner

import "errors"

// box does not exist here: bubblewrap needs Linux.
type box struct{}

func newBox(Config) (*box, error) { return nil, errors.New("bubblewrap needs Linux") }
