package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Cache is how much room the cache has.
type Cache struct {
	// Max is how much of the disk the cache may use; at least 64 MiB.
	Max Size `default:"10GiB" placeholder:"SIZE" help:"How much of the disk the cache may use, such as 10GiB; at least 64MiB. What was not used for longest goes first."`
	// MinFree is how much of the disk the cache leaves free.
	MinFree Size `default:"2GiB" placeholder:"SIZE" help:"How much of the disk the cache leaves free, such as 2GiB: it becomes smaller than --cache-max if need be."`
	// Reserved is what the cache keeps even then; at most Max.
	Reserved Size `default:"1GiB" placeholder:"SIZE" help:"How much the cache keeps even if the disk has less than --cache-min-free, such as 1GiB."`
}

// minCache is the least that the cache may be given.
const minCache = 64 << 20

func (c *Cache) check() error {
	switch {
	case c.Max != 0 && c.Max < minCache: // 0: the cache's own default
		return invalid("--cache-max", "it is %v: use at least %v", c.Max, Size(minCache))
	case c.Max != 0 && c.Reserved > c.Max:
		return invalid("--cache-reserved", "it is %v, more than --cache-max (%v): use at most that", c.Reserved, c.Max)
	}
	return nil
}

// Size is a number of bytes. Its text form is 500MB, 10GiB or 1048576.
type Size int64

// units of sizes, the longer names first.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// String returns the size in the largest unit of which it is a whole number.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText returns the text form.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the text form.
func (s *Size) UnmarshalText(b []byte) error {
	text, unit := strings.TrimSpace(string(b)), int64(1)
	for _, u := range units {
		if n := len(text) - len(u.name); n > 0 && strings.EqualFold(text[n:], u.name) {
			text, unit = strings.TrimSpace(text[:n]), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n*float64(unit) >= math.MaxInt64 {
		return fmt.Errorf("%.40q is not a size such as 500MB or 10GiB", b)
	}
	*s = Size(n * float64(unit))
	return nil
}
