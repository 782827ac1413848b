package browsertest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/planner/anthropic/anthropictest"
)

const apiKey = "a-key-of-this-server"

// newPages starts a server, and a browser that looks at one of its pages.
func newPages(t *testing.T, path string, tweak ...func(*config.Config)) *buildPage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	p := &buildPage{browser: startBrowser(ctx, t), t: t, ctx: ctx, server: startServer(t, tweak...)}
	p.tab = p.open(t, p.server+path)
	return p
}

// do runs a statement in the page, with $ and all as in until.
func (p *buildPage) do(statement string) {
	p.t.Helper()
	p.eval(p.t, p.tab, fmt.Sprintf(`{ const $ = (id) => document.getElementById(id), all = (selector) => [...document.querySelectorAll(selector)]; %s }`, statement))
}

// fill sets a field as a user does.
func (p *buildPage) fill(field, text string) {
	p.t.Helper()
	p.do(fmt.Sprintf(`const field = %s; field.value = %s; field.dispatchEvent(new Event('input', { bubbles: true }))`, field, strconv.Quote(text)))
}

// choose chooses a plan file.
func (p *buildPage) choose(name, text string) {
	p.t.Helper()
	p.do(fmt.Sprintf(`const data = new DataTransfer(); data.items.add(new File([%s], %q)); $('file').files = data.files; $('file').dispatchEvent(new Event('change'))`,
		strconv.Quote(text), name))
}

// TestFromAPromptToASite types a prompt. The page shows the tasks while the model is
// still writing the plan, what it cost, and in the end the site in a frame.
func TestFromAPromptToASite(t *testing.T) {
	t.Parallel()
	const site = `<!doctype html><title>Bakery</title><script>setInterval(() => parent.postMessage('open at seven', '*'), 50)</script>`
	held, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	model := anthropictest.New(t, func(c anthropictest.Call) anthropictest.Reply {
		if c.Purpose == "files" {
			return anthropictest.Reply{Input: anthropictest.Files("index.html", site)}
		}
		return anthropictest.Reply{Input: anthropictest.Plan("Write the page"), Before: func(piece int) {
			if piece == 0 { // all is sent but the end
				once.Do(func() { close(held) })
				<-goOn
			}
		}}
	})
	p := newPages(t, "/", func(c *config.Config) {
		c.Anthropic = config.Model{APIKey: anthropictest.Key, BaseURL: model.URL}
		c.Model, c.Planning.MaxTokens = "claude-sonnet-5-5", 32000
	})
	p.until(`all('.heading .button')[0]`)
	p.do(`all('.heading .button')[0].click()`)
	p.until(`location.pathname === '/new' && $('form')?.hidden === false && document.activeElement === $('prompt') && $('planner-field').hidden`)
	p.do(`$('start').click()`)
	p.until(`$('prompt').getAttribute('aria-invalid') === 'true' && /what is to be built/.test($('prompt-error').textContent)`)
	p.fill(`$('prompt')`, "a landing page for a bakery ☕")
	p.until(`$('prompt-size').textContent === '31 of 32,768 bytes'`)
	p.fill(`$('project')`, "bakery")
	p.do(`$('prompt').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', ctrlKey: true, bubbles: true }))`)
	p.until(`location.pathname.startsWith('/builds/') && $('state')?.textContent === 'Planning'`)
	<-held
	p.until(`all('#rows li').some((row) => row.dataset.state === 'waiting' && row.querySelector('.label').textContent === 'Write the page')`)
	p.until(`$('asked-first').textContent === 'a landing page for a bakery ☕' && !$('asked').hidden && $('name').textContent === 'bakery'`)
	close(goOn)
	p.until(`$('state').textContent === 'Completed' && $('planner').textContent === 'anthropic · claude-sonnet-5-5'`)
	p.until(`/^\d+ read, 100 written$/.test($('tokens').textContent) && /^\$0\.\d{4}$/.test($('cost').textContent) && $('sandbox').textContent`)
	p.do(`addEventListener('message', ({ origin, data }) => { window.said = origin + ' ' + data; })`)
	p.until(`window.said === new URL($('preview').href).origin + ' open at seven' && new URL($('preview').href).origin !== location.origin`)
	p.do(`$('width-phone').click()`)
	p.until(`all('.stage iframe')[0].clientWidth === 388 && $('width-phone').getAttribute('aria-pressed') === 'true'`) // without its border
	p.until(`thrown.length === 0`)
}

// TestPlanFileInThePage chooses a plan file with a mistake, and starts a better one
// with an API key. Its build fails and is repeated.
func TestPlanFileInThePage(t *testing.T) {
	t.Parallel()
	p := newPages(t, "/new", func(c *config.Config) { c.APIKeys = []string{apiKey} })
	p.until(`$('form')?.hidden === false && !$('way-file').hidden && $('way-prompt').hidden`) // there is no planner
	p.choose("site.yaml", "name: site\ntasks:\n  - name: one\n    run: 'true'\n    needs: [two]\n")
	p.until(`!$('key-field').hidden && /asks for an API key/.test($('key-error').textContent)`)
	p.do(`$('start').click()`)
	p.until(`document.activeElement === $('key')`)
	p.fill(`$('key')`, "another-key-than-that")
	p.do(`$('start').click()`)
	p.until(`$('key-error').textContent === 'This is not a key of this server.'`)
	p.fill(`$('key')`, apiKey)
	p.do(`$('start').click()`)
	p.until(`/^site\.yaml:5:13: tasks\[0\]\.needs\[0\]: /.test($('plan-error').textContent) && document.activeElement === $('plan-error')`)

	const plan = "name: site\ntasks:\n  - name: one\n    run: sleep 0.05\n  - name: two\n    needs: [one]\n    run: exit 3\n"
	p.do(fmt.Sprintf(`const data = new DataTransfer(); data.items.add(new File([%s], 'b.yaml')); $('form').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))`, strconv.Quote(plan)))
	p.until(`$('plan-ok').textContent === 'site: 2 tasks' && $('plan-error').hidden && $('project').placeholder === 'site'`)
	p.do(`$('start').click()`)
	p.until(`location.pathname.startsWith('/builds/') && $('state')?.textContent === 'Failed' && $('name').textContent === 'site' && !$('retry').hidden`)
	p.do(`sessionStorage.old = $('id').textContent; $('retry').click()`)
	p.until(`$('again').open && /^From where it failed/.test($('from-failed').textContent)`)
	p.do(`all('#again .yes')[0].click()`)
	p.until(`/asks for an API key/.test(all('#again .wrong')[0].textContent) && document.activeElement === all('#again .key input')[0]`)
	p.do(fmt.Sprintf(`document.activeElement.value = %q; all('#again .yes')[0].click()`, apiKey))
	p.until(`$('id')?.textContent !== sessionStorage.old && $('of-build')?.textContent === sessionStorage.old && $('state').textContent === 'Failed'`)
	p.until(`all('#rows li').some((row) => row.dataset.state === 'done' && /^cached, saved \d/.test(row.querySelector('.note')?.textContent ?? ''))`)
	p.until(`all('#rows li').some((row) => row.dataset.state === 'failed' && row.querySelector('.label').textContent === 'two') && thrown.length === 0`)
}

// TestExampleInThePage starts a build from an example, which needs nothing but the
// server.
func TestExampleInThePage(t *testing.T) {
	t.Parallel()
	p := newPages(t, "/new")
	p.until(`$('form')?.hidden === false`)
	p.do(`all('[name=way][value=example]')[0].click()`)
	p.until(`$('plan-ok').textContent === 'hello-site: 3 tasks' && /Build 27/.test($('plan-text').textContent)`)
	p.do(`$('start').click()`)
	p.until(`location.pathname.startsWith('/builds/') && $('state')?.textContent === 'Completed' && all('.stage iframe').length === 1`)
	p.until(`thrown.length === 0`)
}
