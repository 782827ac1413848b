package store

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Migration is one step of a store's schema.
type Migration struct {
	Version int
	SQL     string
}

// MigrationList holds the steps that this binary knows, in order.
type MigrationList []Migration

// Migrations reads migrations/0001_name.sql, 0002_…, and so on.
func Migrations(files fs.FS) (MigrationList, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all MigrationList
	for i, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", name, i+1)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		all = append(all, Migration{Version: i + 1, SQL: string(text)})
	}
	return all, nil
}

// After returns the steps that a database at the version still needs. It refuses a
// database that is ahead of this binary, whose tables may have another meaning.
func (l MigrationList) After(version int) (MigrationList, error) {
	if version > len(l) {
		return nil, fmt.Errorf("the database has schema version %d and this buildcast knows %d: run the newer buildcast that made it", version, len(l))
	}
	return l[version:], nil
}
