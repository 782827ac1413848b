package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// Dialect is what differs between the databases in the queries of lists.
type Dialect struct {
	// Parameter returns the text of the n-th parameter of a query, from 1.
	Parameter func(n int) string
	// Time converts milliseconds to the value of a parameter.
	Time func(ms int64) any
	// Phase returns the condition for builds in a phase; ? stands for the phase.
	Phase func(p buildcast.Phase) string
	// Position is the name of the function that finds a text in another; it returns 0
	// if there is none.
	Position string
}

// Numbered is a Dialect's Parameter for $1, $2, and so on.
func Numbered(n int) string { return fmt.Sprintf("$%d", n) }

// Same is a Dialect's Time where times are stored as milliseconds.
func Same(ms int64) any { return ms }

// AsTime is a Dialect's Time where times are stored as such.
func AsTime(ms int64) any { return time.UnixMilli(ms) }

// where collects the conditions of a query.
type where struct {
	dialect    Dialect
	conditions []string
	args       []any
}

// and adds a condition; each ? in it stands for the next of the values.
func (w *where) and(condition string, values ...any) {
	for _, v := range values {
		condition = strings.Replace(condition, "?", w.add(v), 1)
	}
	w.conditions = append(w.conditions, condition)
}

func (w *where) add(value any) (parameter string) {
	w.args = append(w.args, value)
	return w.dialect.Parameter(len(w.args))
}

// page returns the query for a page and one more row, which tells the caller whether
// another page follows.
func (w *where) page(query, order string, limit int) (string, []any) {
	text := query + " WHERE " + strings.Join(w.conditions, " AND ") + " ORDER BY " + order
	return text + " LIMIT " + w.add(limit+1), w.args
}

// Query returns the query for a page of builds: status and created_at of each.
func (f Filter) Query(d Dialect) (query string, args []any, err error) {
	w := where{dialect: d}
	w.and(`deleted_at IS NULL`)
	w.and(`id <> '` + buildcast.OperationsBuild + `'`)
	if f.Phase != "" {
		w.and(d.Phase(f.Phase), string(f.Phase))
	}
	if f.Project != "" {
		w.and(`project = ?`, f.Project)
	}
	if f.Text != "" {
		w.and(d.Position+"(lower(id || '\n' || project || '\n' || (status ->> 'message')), lower(?)) > 0", f.Text)
	}
	if f.Before != "" {
		p, err := ParsePlace(f.Before)
		if err != nil {
			return "", nil, err
		}
		w.and(`(created_at, id) < (?, ?)`, d.Time(p.Created), p.ID)
	}
	query, args = w.page(`SELECT status, created_at FROM builds`, `created_at DESC, id DESC`, f.Limit)
	return query, args, nil
}

// Query returns the query for a page of deliveries, with the columns.
func (f DeliveryFilter) Query(d Dialect, columns string) (query string, args []any, err error) {
	w := where{dialect: d}
	// Deliveries of events that were cut off wait to be purged; no list shows them.
	w.and(`event_id >= (SELECT first_event_id FROM builds b WHERE b.id = build_id)`)
	if f.EndpointID != "" {
		w.and(`endpoint_id = ?`, f.EndpointID)
	}
	if f.BuildID != "" {
		w.and(`build_id = ?`, f.BuildID)
	}
	if f.State != "" {
		w.and(`state = ?`, string(f.State))
	}
	if f.Before != "" {
		p, err := ParseDeliveryPlace(f.Before)
		if err != nil {
			return "", nil, err
		}
		w.and(`(created_at, build_id, event_id, endpoint_id) < (?, ?, ?, ?)`, d.Time(p.Created), p.BuildID, p.EventID, p.EndpointID)
	}
	query, args = w.page(`SELECT `+columns+` FROM worker_webhook_failures`,
		`created_at DESC, build_id DESC, event_id DESC, endpoint_id DESC`, f.Limit)
	return query, args, nil
}

// PageOfBuilds collects the rows of a page of builds.
type PageOfBuilds struct {
	Page
	limit int
	last  Place
}

// NewPage begins a page for the filter.
func NewPage(f Filter) *PageOfBuilds { return &PageOfBuilds{limit: f.Limit} }

// Add adds a row of Filter.Query; created is in milliseconds.
func (p *PageOfBuilds) Add(status []byte, created int64) error {
	if len(p.Statuses) == p.limit { // another page follows
		p.Next = p.last.String()
		return nil
	}
	st, err := DecodeStatus(status)
	if err != nil {
		return err
	}
	p.Statuses = append(p.Statuses, st)
	p.last = Place{Created: created, ID: st.BuildID}
	return nil
}
