import { $, el, setData, setText, setTime } from './dom.js';
import { ago, duration, plural } from './format.js';
import { home, now } from './api.js';

const pageSize = 25;
const words = { retrying: 'Retrying', dead: 'Dead', delivered: 'Delivered' };

/** The list of deliveries that failed at least once, with all attempts. */
export class Deliveries {
  #send;
  #notice;
  #rows = new Map(); // endpoint, build and event -> row
  #wanted = pageSize;
  #asked = 0; // number of requests: only the answer to the latest is shown
  #urls = new Map(); // endpoint id -> its address

  constructor(send, notice) {
    this.#send = send;
    this.#notice = notice;
    $('filter').addEventListener('input', () => {
      this.#wanted = pageSize;
      this.#read();
    });
    $('filter').addEventListener('submit', (event) => event.preventDefault());
    $('older').addEventListener('click', () => {
      this.#wanted += pageSize;
      this.#read();
    });
  }

  async refresh(endpoints) {
    const select = $('filter').endpointId;
    const listed = endpoints.map(({ id, url }) => `${id} ${url}`).join('\n');
    if (select.dataset.listed !== listed) {
      select.dataset.listed = listed;
      const chosen = select.value;
      select.replaceChildren(new Option('All', ''), ...endpoints.map(({ id, url }) => new Option(url.replace(/^https?:\/\//, ''), id)));
      select.value = this.#urls.has(chosen) || !chosen ? chosen : '';
      this.#urls = new Map(endpoints.map(({ id, url }) => [id, url]));
    }
    await this.#show();
  }

  async #read() {
    try {
      await this.#show();
    } catch (error) {
      this.#notice(`The list could not be read: ${error.message}.`);
    }
  }

  async #show() {
    const { endpointId, state, buildId } = $('filter');
    const q = new URLSearchParams({ limit: Math.min(this.#wanted, 200) });
    for (const field of [endpointId, state, buildId]) if (field.value.trim()) q.set(field.name, field.value.trim());
    const mine = ++this.#asked;
    const { deliveries, next } = await this.#send(`/deliveries?${q}`);
    if (mine !== this.#asked) return;
    const keep = new Set(deliveries.map(keyOf));
    for (const [key, row] of this.#rows) {
      if (keep.has(key)) continue;
      row.item.remove();
      this.#rows.delete(key);
    }
    deliveries.forEach((d, i) => {
      const key = keyOf(d);
      let row = this.#rows.get(key);
      if (!row) this.#rows.set(key, (row = this.#newRow(d)));
      this.#update(row, d);
      const list = $('deliveries');
      if (list.children[i] !== row.item) list.insertBefore(row.item, list.children[i] ?? null);
    });
    $('none').hidden = deliveries.length > 0;
    $('older').hidden = !next || this.#wanted >= 200;
  }

  #newRow(d) {
    const row = {
      state: el('span', 'state'), event: el('span', 'event'), when: el('time', 'when'), last: el('span', 'last'), attempts: el('ol', ''), refused: el('p', 'bad'), drawn: '',
    };
    const build = el('a', 'mono', d.buildId);
    build.href = `${home}builds/${encodeURIComponent(d.buildId)}`;
    row.event.append(`${d.eventType} · event ${d.eventId} of `, build);
    const again = Object.assign(el('button', '', 'Redeliver'), { type: 'button' });
    row.refused.setAttribute('role', 'alert');
    again.addEventListener('click', () => this.#redeliver(d, again, row.refused));
    row.item = el('li', '', el('details', '', el('summary', '', row.state, row.event, row.when, row.last), el('div', 'attempts', row.attempts, again, row.refused)));
    return row;
  }

  #update(row, d) {
    setData(row.state, 'state', d.state);
    setText(row.state, words[d.state] ?? d.state);
    setTime(row.when, d.updatedAt, ago(d.updatedAt, now()));
    const wait = d.retryAt ? Date.parse(d.retryAt) - now() : 0;
    const next = d.state !== 'retrying' ? '' : wait > 1000 ? `again in ${duration(wait)}` : 'again now';
    setText(row.last, [plural(d.attempts.length, 'attempt'), said(d.attempts.at(-1)), next, this.#urls.get(d.endpointId)].filter(Boolean).join(' · '));
    const drawn = JSON.stringify(d.attempts);
    if (drawn === row.drawn) return;
    row.drawn = drawn;
    row.attempts.replaceChildren(...d.attempts.map(attempt));
  }

  async #redeliver({ endpointId, buildId, eventId }, button, refused) {
    button.disabled = true;
    setText(refused, '');
    try {
      await this.#send(`/endpoints/${encodeURIComponent(endpointId)}/redeliver`, 'POST', { buildId, eventId });
    } catch (error) {
      setText(refused, `It could not be redelivered: ${error.message}.`);
    }
    button.disabled = false;
    await this.#read();
  }
}

const keyOf = ({ endpointId, buildId, eventId }) => `${endpointId} ${buildId} ${eventId}`;

/** The result of an attempt, in a few words. */
function said(a) {
  if (!a) return '';
  return [a.status ? `status ${a.status}` : '', a.error ?? ''].filter(Boolean).join(': ');
}

/** Receivers' answers are untrusted: they are inserted as text nodes only. */
function attempt(a) {
  const at = el('time');
  setTime(at, a.at, new Date(a.at).toLocaleString());
  const item = el('li', '', at, ` · ${said(a)} · took ${duration(a.durationMs)}`);
  if (a.response) item.append(el('pre', '', a.response));
  return item;
}
