import { el, setText, setTime } from './dom.js';
import { asNumber, asText, duration, missed, plural, saved, timeOfDay } from './format.js';

const keep = 300; // events on the page, the newest

/** The newest events, without output, which is shown separately. */
export class EventList {
  #list;
  #empty = el('li', 'nothing', 'No events yet.');
  #older = el('li', 'nothing');
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
    if (event.type !== 'build_log') this.#push(() => row(event));
  }

  /** These events are no longer kept. */
  miss(from, to) {
    this.#push(() => el('li', 'nothing', missed(from, to)));
  }

  /** @param {() => HTMLElement} make draws it, unless it would be left out at once */
  #push(make) {
    this.#waiting.push(make);
    if (this.#waiting.length > keep) {
      this.#waiting.shift();
      this.#left++;
    }
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (!this.#waiting.length) return;
    this.#empty.remove();
    this.#older.remove();
    this.#list.prepend(...this.#waiting.reverse().map((make) => make()));
    this.#waiting = [];
    while (this.#list.children.length > keep) {
      this.#list.lastChild.remove();
      this.#left++;
    }
    if (!this.#left) return;
    setText(this.#older, `${plural(this.#left, 'older event')} not shown`);
    this.#list.append(this.#older);
  }
}

function row({ id, type, data, timestamp }) {
  const time = el('time');
  setTime(time, timestamp, timeOfDay(timestamp));
  const again = type === 'task_failed' && data?.willRetry === true;
  const what = el('span', `what${/_failed$/.test(type) && !again ? ' bad' : ''}`, sentence(data));
  return el('li', '', el('span', 'n', `${id}`), el('span', 'type', again ? 'task attempt failed' : type.replaceAll('_', ' ')), time, what);
}

/** Summarizes the event's data in one line. The data is untrusted. */
function sentence(data) {
  const d = data ?? {};
  if (typeof d !== 'object') return asText(d);
  const parts = [
    asText(d.taskName) + (asNumber(d.attempt) > 1 ? ` (attempt ${d.attempt})` : ''),
    asText(d.message) || asText(d.error),
    asText(d.previewUrl) || asText(d.target),
    Number.isFinite(d.taskCount) ? plural(d.taskCount, 'task') : '',
    asNumber(d.filesCreated) > 0 ? plural(d.filesCreated, 'file') : '',
    [asText(d.planner), asText(d.model)].filter(Boolean).join(' '),
    saved(d),
    Number.isFinite(d.durationMs) ? duration(d.durationMs) : '',
    d.willRetry === true ? 'the next attempt follows' : '',
  ].filter(Boolean);
  const text = parts.length || !Object.keys(d).length ? parts.join(' · ') : JSON.stringify(d);
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}
