package verb

const (
	maxLimit = 10_000
	// PageSize is how many items one request asks for.
	PageSize = 100
)

// CheckLimit checks the value of --limit.
func CheckLimit(n int) error {
	if n < 1 || n > maxLimit {
		return Usage("--limit is %d: use 1 to %d", n, maxLimit)
	}
	return nil
}

// Pages reads at most limit items, newest first, and reports whether there are
// more. read returns at most n items that come after the page before, and the
// name of the next page, which is empty at the end.
func Pages[T any](limit int, read func(before string, n int) (items []T, next string, err error)) (all []T, more bool, err error) {
	more = true
	for before := ""; more && len(all) < limit; {
		items, next, err := read(before, min(limit-len(all), PageSize))
		if err != nil {
			return nil, false, err
		}
		all, before, more = append(all, items...), next, next != ""
	}
	return all, more, nil
}

// NoteMore prints how to list more items than the limit.
func (s *Session) NoteMore(limit int) {
	s.Note("There are more: list them with --limit %d.", min(10*limit, maxLimit))
}
