package config

import "testing"

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1048576": 1 << 20, "10GiB": 10 << 30, "1.5 GB": 1500e6, "500mb": 500e6, "64KiB": 64 << 10, "7B": 7, "2TiB": 2 << 40,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %d, want %d (%v)", text, got, want, err)
		}
		var again Size
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%v is read as %v", got, again)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1 x", "NaN", "1e400", "9999999999GB", "1e"} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestTheCacheHasRoom(t *testing.T) {
	for _, c := range []Cache{{Max: 1 << 20}, {Max: 1 << 30, Reserved: 2 << 30}} {
		if c.check() == nil {
			t.Errorf("%+v is allowed", c)
		}
	}
	if err := (&Cache{Max: 1 << 30, Reserved: 1 << 30}).check(); err != nil {
		t.Error(err)
	}
}
