import { el, setTime } from './dom.js';
import { asText, duration, plural, timeOfDay } from './format.js';

const keep = 300; // events on the page, the newest

/** The newest events, but for output, which has a place of its own. */
export class EventList {
  #list;
  #empty = el('li', 'nothing', 'No events yet.');
  #waiting = [];
  #frame = 0;
  #left = 0;

  constructor(list) {
    this.#list = list;
    this.clear();
  }

  clear() {
    this.#waiting = [];
    this.#left = 0;
    this.#list.replaceChildren(this.#empty);
  }

  add(event) {
    if (event.type === 'build_log') return;
    this.#waiting.push(event);
    if (this.#waiting.length > keep) {
      this.#waiting.shift();
      this.#left++;
    }
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (!this.#waiting.length) return;
    this.#list.querySelector('.nothing')?.remove();
    this.#list.prepend(...this.#waiting.reverse().map(row));
    this.#waiting = [];
    while (this.#list.children.length > keep) {
      this.#list.lastChild.remove();
      this.#left++;
    }
    if (this.#left) this.#list.append(el('li', 'nothing', `${plural(this.#left, 'older event')} not shown`));
  }
}

function row({ id, type, data, timestamp }) {
  const time = el('time');
  setTime(time, timestamp, timeOfDay(timestamp));
  const what = el('span', `what${/_failed$/.test(type) ? ' bad' : ''}`, sentence(data));
  return el('li', '', el('span', 'n', `${id}`), el('span', 'type', type.replaceAll('_', ' ')), time, what);
}

/** What the event's data says, in one line. */
function sentence(data) {
  const d = data ?? {};
  if (typeof d !== 'object') return asText(d);
  const parts = [
    asText(d.taskName) + (d.attempt > 1 ? ` (attempt ${d.attempt})` : ''),
    asText(d.message) || asText(d.error),
    asText(d.previewUrl) || asText(d.target),
    Number.isFinite(d.taskCount) ? plural(d.taskCount, 'task') : '',
    d.filesCreated > 0 ? plural(d.filesCreated, 'file') : '',
    Number.isFinite(d.durationMs) ? duration(d.durationMs) : '',
    d.willRetry ? 'will be tried again' : '',
  ].filter(Boolean);
  const text = parts.length || !Object.keys(d).length ? parts.join(' · ') : JSON.stringify(d);
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}
