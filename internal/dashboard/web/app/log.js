import { el } from './dom.js';
import { nodesOf } from './ansi.js';
import { asNumber, asText, missed, plural } from './format.js';

const keep = 5000; // lines on the page; older ones are read again when asked for
const pageSize = 100; // events of one request: they may have many lines each

/** The last output lines. A chunk is a build_log event: its lines are added and removed together. */
export class Log {
  #box;
  #follow;
  #only;
  #readEvents;
  #sources = new Set(); // the steps whose output can be shown alone
  #chunks = []; // {id, source, lines, node}
  #waiting = []; // chunks to be drawn at the next frame
  #lines = 0;
  #limit = keep;
  #before = 0; // lines that were removed from the page
  #cut = 0; // events with lower ids may have more lines
  #first = 1; // the first event that is kept
  #earlier = el('button');
  #frame = 0;
  #empty = el('p', 'nothing');

  /**
   * @param {HTMLElement} box
   * @param {HTMLInputElement} follow
   * @param {HTMLSelectElement} only whose output is shown; '': all
   * @param {(after: number, limit: number) => Promise<object[]>} readEvents
   */
  constructor(box, follow, only, readEvents) {
    this.#box = box;
    this.#follow = follow;
    this.#only = only;
    this.#readEvents = readEvents;
    this.#earlier.type = 'button';
    this.#earlier.addEventListener('click', () => this.#readEarlier());
    follow.addEventListener('change', () => this.#toEnd());
    only.addEventListener('change', () => this.#sift());
    box.addEventListener('wheel', ({ deltaY }) => deltaY < 0 && this.#leave(), { passive: true });
    box.addEventListener('touchmove', () => this.#leave(), { passive: true });
    box.addEventListener('keydown', ({ key }) => /^(ArrowUp|PageUp|Home)$/.test(key) && this.#leave());
    this.clear();
  }

  clear() {
    this.#chunks = [];
    this.#waiting = [];
    this.#lines = this.#before = this.#cut = 0;
    this.#first = 1;
    this.#limit = keep;
    this.#box.replaceChildren();
    this.#sayEmpty();
  }

  add(event) {
    const chunk = chunkOf(event);
    if (!chunk) return;
    this.#waiting.push(chunk);
    this.#lines += chunk.lines.length;
    this.#trim();
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** These events are no longer kept. */
  miss(from, to) {
    this.#first = to + 1;
    this.#waiting.push({ id: to, gap: missed(from, to), source: '', lines: [], dropped: 0 });
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Lines that would be trimmed at once are never drawn. */
  #trim() {
    while (this.#lines > this.#limit && this.#chunks.length + this.#waiting.length > 1) {
      const old = (this.#chunks.length ? this.#chunks : this.#waiting).shift();
      old.node?.remove();
      this.#lines -= old.lines.length;
      this.#before += old.lines.length;
      this.#cut = old.id + 1;
    }
  }

  #draw() {
    this.#frame = 0;
    const fresh = this.#waiting;
    this.#waiting = [];
    if (!fresh.length) return;
    const part = this.#drawAll(fresh, this.#chunks.at(-1)?.source);
    this.#chunks.push(...fresh);
    this.#box.append(part);
    this.#sayEmpty();
    this.#offerEarlier();
    this.#toEnd();
  }

  #drawAll(chunks, above) {
    const part = document.createDocumentFragment();
    for (const chunk of chunks) {
      part.append(drawChunk(chunk, above));
      above = chunk.source;
      chunk.node.hidden = !this.#shows(chunk);
      if (!chunk.gap) this.#offer(above);
    }
    return part;
  }

  /** Offers to show this source alone, if there is another. */
  #offer(source) {
    if (this.#sources.has(source)) return;
    this.#sources.add(source);
    this.#only.append(new Option(source || 'build', `only ${source}`));
    this.#only.hidden = this.#sources.size < 2;
  }

  #shows({ source, gap }) {
    return gap || !this.#only.value || this.#only.value === `only ${source}`;
  }

  /** Shows the chosen source. */
  #sift() {
    this.#box.classList.toggle('one', this.#only.value !== '');
    for (const chunk of this.#chunks) chunk.node.hidden = !this.#shows(chunk);
    this.#sayEmpty();
    this.#offerEarlier();
    this.#toEnd();
  }

  #sayEmpty() {
    this.#empty.textContent = this.#chunks.length ? 'None of the lines here is of this task.' : 'No output yet.';
    if (this.#chunks.some((chunk) => this.#shows(chunk))) this.#empty.remove();
    else this.#box.append(this.#empty);
  }

  #offerEarlier() {
    if (!this.#before) {
      this.#earlier.remove();
      return;
    }
    this.#earlier.textContent = `${plural(this.#before, 'earlier line')}${this.#only.value && ' of all tasks'}: show more`;
    if (this.#box.firstChild !== this.#earlier) this.#box.prepend(this.#earlier);
  }

  /** Reads backwards from the first line that is shown: ids have no gaps. */
  async #readEarlier() {
    this.#leave();
    this.#earlier.disabled = true;
    const found = [];
    let lines = 0;
    let cut = this.#cut;
    try {
      while (cut > this.#first && lines < keep) {
        const after = Math.max(this.#first - 1, cut - 1 - pageSize);
        const chunks = (await this.#readEvents(after, cut - 1 - after)).map(chunkOf).filter(Boolean);
        found.unshift(...chunks);
        lines += chunks.reduce((sum, c) => sum + c.lines.length, 0);
        cut = after + 1;
      }
    } catch (error) {
      this.#earlier.textContent = `Earlier lines could not be read (${error.message}): try again`;
      this.#earlier.disabled = false;
      return;
    }
    this.#earlier.disabled = false;
    this.#prepend(found, lines, cut);
  }

  #prepend(found, lines, cut) {
    const fromEnd = this.#box.scrollHeight - this.#box.scrollTop;
    this.#box.insertBefore(this.#drawAll(found), this.#chunks[0]?.node ?? null);
    this.#chunks.unshift(...found);
    this.#sayEmpty();
    this.#lines += lines;
    this.#limit = Math.max(this.#limit, this.#lines);
    this.#before = cut > this.#first ? Math.max(0, this.#before - lines) : 0;
    this.#cut = cut;
    this.#offerEarlier();
    this.#box.scrollTop = this.#box.scrollHeight - fromEnd; // the visible lines stay in place
  }

  #leave() {
    this.#follow.checked = false;
  }

  #toEnd() {
    if (this.#follow.checked) this.#box.scrollTop = this.#box.scrollHeight;
  }
}

function chunkOf({ id, type, data }) {
  if (type !== 'build_log') return null;
  const { lines, line, message, taskName, stage, ...more } = data ?? {};
  const dropped = asNumber(more.dropped);
  const all = Array.isArray(lines) ? lines : [line ?? message].filter((text) => text != null);
  if (!all.length && !dropped) return null;
  return { id, source: asText(taskName || stage), lines: all.map(asText), dropped };
}

function drawChunk(chunk, above) {
  const node = (chunk.node = el('div', `chunk${chunk.gap ? ' gap' : ''}`, chunk.gap ?? ''));
  if (chunk.gap) return node;
  if (chunk.source !== (above ?? '')) node.append(el('span', 'from', chunk.source || 'build'));
  if (chunk.dropped > 0) node.append(el('span', 'dropped', `${plural(chunk.dropped, 'line')} left out`));
  chunk.lines.forEach((line, i) => node.append(...(i ? ['\n'] : []), ...nodesOf(line)));
  return node;
}
