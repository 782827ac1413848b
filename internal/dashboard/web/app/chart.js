import { el, setData, setText } from './dom.js';
import { duration } from './format.js';
import { ticks } from './timeline.js';

const spoken = { waiting: 'waiting', running: 'running', done: 'done', failed: 'failed', retried: 'failed, trying again', stopped: 'stopped' };

/** Draws a timeline. Elements are kept from one drawing to the next. */
export class Chart {
  #list;
  #ticks = el('div', 'ticks');
  #drawn = new Map(); // key -> {item, label, lane, took, state, bars}
  #marks = '';
  #empty = el('li', 'nothing', 'Tasks appear here as they begin.');

  constructor(axis, list) {
    this.#list = list;
    axis.replaceChildren(this.#ticks);
    this.clear();
  }

  clear() {
    this.#drawn.clear();
    this.#list.replaceChildren(this.#empty);
    this.#ticks.replaceChildren();
    this.#marks = '';
  }

  /**
   * @param {import('./timeline.js').Timeline} timeline
   * @param {number} now in ms, where bars that are not over end
   * @param {number} [span] ms that the width stands for, at least
   */
  draw(timeline, now, span = 0) {
    if (!timeline.rows.size) return;
    this.#empty.remove();
    const end = timeline.over ? timeline.to : Math.max(now, timeline.to);
    const width = Math.max(end - timeline.from, span, 1000);
    this.#drawAxis(width);
    for (const [key, row] of timeline.rows) {
      let drawn = this.#drawn.get(key);
      if (!drawn) this.#drawn.set(key, (drawn = this.#newRow(row)));
      drawRow(drawn, row, timeline.from, end, width);
    }
  }

  #newRow({ name, kind }) {
    const drawn = { item: el('li'), lane: el('span', 'lane'), took: el('span', 'took'), state: el('span', 'hidden'), bars: [] };
    const label = el('span', 'label', name);
    label.title = name;
    drawn.lane.setAttribute('aria-hidden', 'true');
    drawn.item.dataset.kind = kind;
    drawn.item.append(label, drawn.lane, drawn.took, drawn.state);
    this.#list.append(drawn.item);
    return drawn;
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
      mark.hidden = left > 97; // it would stand over the edge
    });
  }
}

const label = (ms) => (ms === 0 ? '0' : ms < 60_000 ? `${ms / 1000} s` : duration(ms).replace(' 00 s', '').replace(' 00 m', ''));

function drawRow(drawn, row, from, end, width) {
  setData(drawn.item, 'state', row.state);
  setText(drawn.state, spoken[row.state]);
  row.bars.forEach((bar, i) => {
    const node = (drawn.bars[i] ??= drawn.lane.appendChild(el('span', 'bar')));
    setData(node, 'state', bar.state);
    const to = bar.to ?? end;
    node.style.left = `min(${((bar.from - from) / width) * 100}%, 100% - 4px)`;
    node.style.width = `${(Math.max(0, to - bar.from) / width) * 100}%`;
  });
  const last = row.bars.at(-1);
  setText(drawn.took, last ? duration((last.to ?? end) - last.from) : '–');
}
