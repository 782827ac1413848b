//go:build !linux

package inputs

import (
	"io/fs"
)

func statOf(info fs.FileInfo) stat {
	return stat{size: info.Size(), modified: info.ModTime(), changed: info.ModTime()}
}
