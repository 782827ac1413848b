import { el, setAttribute, setData, setText } from './dom.js';
import { duration } from './format.js';
import { ticks } from './timeline.js';

const spoken = { waiting: 'waiting', running: 'running', done: 'done', failed: 'failed', retried: 'waits for another attempt', stopped: 'stopped' };
const rowHeight = 26; // px, as in build.css
const margin = 5; // rows that are drawn above and below those in view

/** Draws the visible rows of a timeline. Elements are reused from one drawing to the next. */
export class Chart {
  #list;
  #ticks = el('div', 'ticks');
  #above = el('li', 'space'); // take the place of the rows that are out of view
  #below = el('li', 'space');
  #drawn = new Map(); // index of a row -> {row, item, lane, took, state, bars, note}
  #marks = '';
  #empty = el('li', 'nothing', 'Tasks appear here as they begin.');
  #again = () => {};

  constructor(axis, list) {
    this.#list = list;
    axis.replaceChildren(this.#ticks);
    for (const space of [this.#above, this.#below]) space.setAttribute('role', 'presentation');
    list.addEventListener('scroll', () => this.#again(), { passive: true });
    this.clear();
  }

  clear() {
    this.#drawn.clear();
    this.#list.replaceChildren(this.#empty);
    this.#ticks.replaceChildren();
    this.#marks = '';
    this.#again = () => {};
  }

  /**
   * @param {import('./timeline.js').Timeline} timeline
   * @param {number} now in ms, where bars that are not over end
   * @param {number} [span] ms that the width stands for, at least
   */
  draw(timeline, now, span = 0) {
    const { rows } = timeline;
    if (!rows.length) return;
    if (!this.#above.isConnected) this.#list.replaceChildren(this.#above, this.#below);
    this.#again = () => this.draw(timeline, now, span);
    const end = timeline.over ? timeline.to : Math.max(now, timeline.to);
    const width = Math.max(end - timeline.from, span, 1000);
    this.#drawAxis(width);
    const [first, last] = this.#inView(rows.length);
    for (const [index, { item }] of this.#drawn) {
      if (index >= first && index < last && this.#drawn.get(index).row === rows[index]) continue;
      item.remove();
      this.#drawn.delete(index);
    }
    let before = this.#above;
    for (let index = first; index < last; index++) {
      let drawn = this.#drawn.get(index);
      if (!drawn) this.#drawn.set(index, (drawn = newRow(rows[index], index)));
      if (before.nextSibling !== drawn.item) before.after(drawn.item);
      before = drawn.item;
      setAttribute(drawn.item, 'aria-setsize', rows.length);
      drawRow(drawn, rows[index], timeline.from, end, width);
    }
    this.#above.style.height = `${first * rowHeight}px`;
    this.#below.style.height = `${(rows.length - last) * rowHeight}px`;
  }

  /** The first row that is drawn, and the one after the last. */
  #inView(count) {
    const { scrollTop, clientHeight } = this.#list;
    const first = Math.floor(scrollTop / rowHeight) - margin;
    const last = Math.ceil((scrollTop + Math.max(clientHeight, 560)) / rowHeight) + margin; // 560: its height when it is full
    return [Math.max(0, Math.min(first, count)), Math.min(last, count)];
  }

  #drawAxis(width) {
    const room = Math.floor(this.#ticks.clientWidth / 44);
    const all = ticks(width, Math.min(6, Math.max(1, room)));
    const marks = `${all.length} ${all[1]} ${Math.round(width)}`;
    if (marks === this.#marks) return;
    this.#marks = marks;
    while (this.#ticks.children.length > all.length) this.#ticks.lastChild.remove();
    all.forEach((ms, i) => {
      const mark = this.#ticks.children[i] ?? this.#ticks.appendChild(el('span'));
      setText(mark, label(ms));
      const left = (ms / width) * 100;
      mark.style.left = `${left}%`;
      mark.hidden = left > 97; // it would extend beyond the edge
    });
  }
}

function newRow(row, index) {
  const { name, kind } = row;
  const drawn = { row, item: el('li'), lane: el('span', 'lane'), took: el('span', 'took'), state: el('span', 'hidden'), note: el('span', 'note'), bars: [] };
  const label = el('span', 'label', name);
  label.title = name;
  drawn.lane.setAttribute('aria-hidden', 'true');
  drawn.item.dataset.kind = kind;
  drawn.item.setAttribute('aria-posinset', index + 1);
  drawn.item.append(label, drawn.lane, drawn.took, drawn.state);
  return drawn;
}

const label = (ms) => (ms === 0 ? '0' : ms < 60_000 ? `${ms / 1000} s` : duration(ms).replace(' 00 s', '').replace(' 00 m', ''));

function drawRow(drawn, row, from, end, width) {
  setData(drawn.item, 'state', row.state);
  setText(drawn.state, [spoken[row.state], row.note].filter(Boolean).join(', '));
  row.bars.forEach((bar, i) => {
    const node = (drawn.bars[i] ??= drawn.lane.appendChild(el('span', 'bar')));
    setData(node, 'state', bar.state);
    const to = bar.to ?? end;
    node.style.left = `min(${((bar.from - from) / width) * 100}%, 100% - 4px)`;
    node.style.width = `${(Math.max(0, to - bar.from) / width) * 100}%`;
  });
  const last = row.bars.at(-1);
  drawNote(drawn, row.note, last && { from: (last.from - from) / width, to: ((last.to ?? end) - from) / width });
  const took = last ? duration((last.to ?? end) - last.from) : '–';
  setText(drawn.took, row.state === 'retried' ? 'retrying' : took);
}

/** Shows the note where there is room: after the bar, before it, or on it. `bar`: its ends, as parts of the width. */
function drawNote({ lane, note }, text, bar) {
  setText(note, text);
  if (!text || !bar) {
    note.remove();
    return;
  }
  if (!note.isConnected) lane.append(note);
  note.title = text;
  const room = Math.max(bar.from, 1 - bar.to);
  const after = room > 0.3 && 1 - bar.to >= bar.from;
  note.style.left = after ? `calc(${bar.to * 100}% + 8px)` : '';
  note.style.right = after ? '' : room > 0.3 ? `calc(${(1 - bar.from) * 100}% + 4px)` : '4px';
  note.style.maxWidth = room > 0.3 ? `calc(${room * 100}% - 8px)` : '';
}
