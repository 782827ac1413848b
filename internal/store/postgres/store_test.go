package postgres

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/storetest"
)

type withServer struct{ *testing.M }

func (m withServer) Run() int { return pgtest.Main(m.M) }

func TestMain(m *testing.M) { goleak.VerifyTestMain(withServer{m}) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, pgtest.URL(t)) })
}

// open opens the database for the test.
func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
