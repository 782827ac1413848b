package cloudflare

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"

	"lukechampine.com/blake3"
)

// hashLength is how many hex digits of the BLAKE3 sum name an asset.
const hashLength = 32

// hashAsset names a file's content as the service does: the first 128 bits of the
// BLAKE3 sum over the content's base64 form, followed by the name's extension.
func hashAsset(content io.Reader, name string) (string, error) {
	sum := blake3.New(32, nil)
	encoder := base64.NewEncoder(base64.StdEncoding, sum)
	if _, err := io.Copy(encoder, content); err != nil {
		return "", err
	}
	if err := encoder.Close(); err != nil {
		return "", err
	}
	_, _ = io.WriteString(sum, extension(name)) // a hash takes all
	return hex.EncodeToString(sum.Sum(nil))[:hashLength], nil
}

// extension is what follows the last dot of the file's name, in its own case. A name
// that begins with its only dot, or ends with a dot, has none.
func extension(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[i+1:]
	}
	return ""
}
