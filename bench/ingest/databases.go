package main

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // the driver

	"github.com/buildcast/buildcast/internal/pgtest"
)

func createDatabase(ctx context.Context, pg *pgtest.Server, name string) error {
	conn, err := pgx.Connect(ctx, pg.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name)
	return err
}

// openBareSQLite opens a database that is as durable as buildcast's.
func openBareSQLite(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec(`
		CREATE TABLE bare_events (id INTEGER PRIMARY KEY, build_id TEXT NOT NULL, event_type TEXT NOT NULL, event_data TEXT NOT NULL, created_at TEXT DEFAULT CURRENT_TIMESTAMP);
		CREATE INDEX bare_build_id ON bare_events (build_id);
		CREATE INDEX bare_composite ON bare_events (build_id, id)`)
	return db, err
}
