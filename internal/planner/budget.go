package planner

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"
)

// Price is what a model costs, in US dollars for a million tokens.
type Price struct {
	Input, Output float64
	// CacheRead and CacheWrite are those of the provider's prompt cache.
	CacheRead, CacheWrite float64
}

// PriceOf returns a price with the usual relations of a prompt cache: a tenth for
// reading, a quarter more for writing.
func PriceOf(input, output float64) Price {
	return Price{Input: input, Output: output, CacheRead: input / 10, CacheWrite: input * 1.25}
}

// Cost returns what the usage costs, in US dollars.
func (p *Price) Cost(u *Usage) float64 {
	return (float64(u.InputTokens)*p.Input + float64(u.OutputTokens)*p.Output +
		float64(u.CacheReadTokens)*p.CacheRead + float64(u.CacheWriteTokens)*p.CacheWrite) / 1e6
}

// Spend is an amount of tokens and of money.
type Spend struct {
	Tokens int64   `json:"tokens"`
	USD    float64 `json:"usd"`
}

// Add returns the sum.
func (s Spend) Add(o Spend) Spend { return Spend{s.Tokens + o.Tokens, s.USD + o.USD} }

func (s Spend) minus(o Spend) Spend { return Spend{s.Tokens - o.Tokens, s.USD - o.USD} }

// SpendOf returns what the usage spends. A price that is not known counts as none.
func SpendOf(u *Usage) Spend {
	s := Spend{Tokens: u.Tokens()}
	if u.CostUSD != nil {
		s.USD = *u.CostUSD
	}
	return s
}

// minOutput is the smallest answer that is worth asking for, in tokens.
const minOutput = 1024

// purse holds what may be spent. A request first holds the most that it may cost: so
// requests at the same time do not pass the limit together.
type purse struct {
	of    string // what the limit is of: "this build" or "today"
	flags string // that set it
	limit Spend  // a zero field: no limit

	mu    sync.Mutex
	used  Spend
	held  Spend
	freed chan struct{} // closed when something was settled
}

// want is what a request asks of a purse.
type want struct {
	input, output int64
	price         *Price // nil: not known
}

func (w want) spend() Spend {
	s := Spend{Tokens: w.input + w.output}
	if w.price != nil {
		s.USD = w.price.Cost(&Usage{InputTokens: w.input, OutputTokens: w.output})
	}
	return s
}

// hold takes the request's part out of the purse, or a smaller one with a shorter
// answer. It waits while others hold what is missing.
func (p *purse) hold(ctx context.Context, w want) (want, error) {
	for {
		p.mu.Lock()
		fits := min(w.output, p.room(w))
		enough := fits == w.output || fits >= minOutput && p.held == Spend{}
		if enough {
			w.output = fits
			p.held = p.held.Add(w.spend())
			p.mu.Unlock()
			return w, nil
		}
		if (p.held == Spend{}) {
			err := p.refuse()
			p.mu.Unlock()
			return w, err
		}
		if p.freed == nil {
			p.freed = make(chan struct{})
		}
		freed := p.freed
		p.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return w, context.Cause(ctx)
		}
	}
}

// room returns how many tokens of output the purse has room for.
func (p *purse) room(w want) int64 {
	room := int64(math.MaxInt64)
	left := p.limit.minus(p.used).minus(p.held)
	if p.limit.Tokens > 0 {
		room = left.Tokens - w.input
	}
	if p.limit.USD > 0 && w.price != nil && w.price.Output > 0 {
		input := w.price.Cost(&Usage{InputTokens: w.input})
		room = min(room, int64((left.USD-input)*1e6/w.price.Output))
	}
	return room
}

func (p *purse) refuse() error {
	limit := ""
	if p.limit.Tokens > 0 {
		limit = fmt.Sprintf("%d of %d tokens", p.used.Tokens, p.limit.Tokens)
	}
	if p.limit.USD > 0 {
		if limit != "" {
			limit += " and "
		}
		limit += fmt.Sprintf("$%.2f of $%.2f", p.used.USD, p.limit.USD)
	}
	return &Error{
		Message: fmt.Sprintf("the planner's budget of %s does not suffice for another answer: %s are used; the server's operator can raise it with %s", p.of, limit, p.flags),
	}
}

// settle replaces what was held by what was spent.
func (p *purse) settle(held, spent Spend) Spend {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = p.held.minus(held)
	if p.held.Tokens <= 0 {
		p.held = Spend{} // without the rounding of floats
	}
	p.used = p.used.Add(spent)
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
	return p.used
}

// ledger is the purse of a day, in UTC. What was spent is kept in a file, so that a
// restart does not begin the day again.
type ledger struct {
	purse
	path string // empty: it is not kept
	log  *slog.Logger
	now  func() time.Time
	day  string     // guarded by purse.mu
	file sync.Mutex // one writer at a time
}

type ledgerFile struct {
	Day string `json:"day"`
	Spend
}

func newLedger(path string, limit Spend, log *slog.Logger) *ledger {
	l := &ledger{path: path, log: log, now: time.Now}
	l.purse = purse{of: "today (UTC)", flags: "--planner-max-tokens-day and --planner-max-cost-day", limit: limit}
	var f ledgerFile
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &f) == nil {
		l.day, l.used = f.Day, f.Spend
	}
	return l
}

// turn begins a new day if there is one.
func (l *ledger) turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if day := l.now().UTC().Format(time.DateOnly); day != l.day {
		l.day, l.used = day, Spend{}
	}
}

func (l *ledger) hold(ctx context.Context, w want) (want, error) {
	l.turn()
	return l.purse.hold(ctx, w)
}

func (l *ledger) settle(held, spent Spend) {
	l.turn()
	l.file.Lock()
	defer l.file.Unlock()
	used := l.purse.settle(held, spent)
	if l.path == "" || spent == (Spend{}) {
		return
	}
	b, err := json.Marshal(ledgerFile{Day: l.today(), Spend: used})
	if err == nil {
		err = writeFile(l.path, b)
	}
	if err != nil {
		l.log.Warn("what planners spent today cannot be kept: after a restart the day's budget begins again", "error", err)
	}
}

func (l *ledger) today() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.day
}
