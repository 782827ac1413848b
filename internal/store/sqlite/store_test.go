package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		runChild(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "b.db")) })
}

// open opens the file for the test.
func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) { // the test may have closed it
			t.Error(err)
		}
	})
	return s
}
