// The timeline of a build's events: rows of bars. No DOM here.

import { asNumber, asText, plural, saved } from './format.js';

const most = 100; // bars of a row: the oldest ones grow together

/**
 * @typedef {{from: number, to: number|null, state: 'running'|'done'|'failed'|'retried'|'stopped'}} Bar `to` null: not over;
 *   retried: this attempt failed, and another follows
 * @typedef {{name: string, kind: 'task'|'stage', bars: Bar[], state: string, note: string, guess: boolean}} Row state:
 *   waiting, or that of its last bar; note: what is said beside its last bar; guess: named by a planner that is still
 *   planning
 */

export class Timeline {
  /** @type {Row[]} in the order of the page: plan, tasks, stages */
  rows = [];
  /** @type {Map<string, Row>} by kind and name */
  #byKey = new Map();
  /** When the first event happened, in ms; 0: none has. */
  from = 0;
  /** The time of the last event that counts. */
  to = 0;
  over = false;

  /** Takes the next event. */
  add({ type, data, timestamp }) {
    if (this.over) return;
    const at = Date.parse(timestamp);
    this.from ||= at;
    this.to = Math.max(this.to, at);
    const d = data ?? {};
    const task = asText(d.taskName);
    const again = d.willRetry === true;
    switch (type) {
      case 'plan_started': this.#open('Plan', 'stage', at); break;
      case 'plan_progress':
        this.#plan(d.tasks, true);
        this.#note('Plan', Array.isArray(d.tasks) && d.tasks.length ? `${plural(d.tasks.length, 'task')} so far` : '');
        break;
      case 'plan_generated':
        this.#close('Plan', 'stage', at, 'done');
        this.#note('Plan', '');
        this.#plan(d.tasks, false);
        break;
      case 'task_started': this.#open(task || 'task', 'task', at); break;
      case 'task_completed':
        this.#close(task || 'task', 'task', at, 'done', d.durationMs);
        this.#note(task || 'task', saved(d), 'task');
        break;
      case 'task_failed':
        this.#close(task || 'task', 'task', at, again ? 'retried' : 'failed');
        if (!again) this.#end(at, 'failed');
        break;
      case 'build_progress':
        if (!d.stage) break;
        if (!d.done) {
          this.#open(title(d.stage), 'stage', at);
          break;
        }
        this.#close(title(d.stage), 'stage', at, 'done', d.durationMs);
        this.#note(title(d.stage), saved(d));
        break;
      case 'deploy_started': this.#open('Deploy', 'stage', at); break;
      case 'deploy_progress': this.#note('Deploy', sent(d)); break;
      case 'deploy_completed': this.#note('Deploy', ''); this.#close('Deploy', 'stage', at, 'done'); this.#end(at, 'stopped'); break;
      case 'deploy_failed': this.#close('Deploy', 'stage', at, 'failed'); this.#end(at, 'failed'); break;
      case 'build_failed':
        if (d.stage) this.#close(title(d.stage), 'stage', at, 'failed');
        this.#end(at, 'stopped');
        break;
      case 'build_completed':
      case 'build_cancelled': this.#end(at, 'stopped'); break;
    }
  }

  /** The tasks of the plan. Those that only an earlier guess of the planner named are left out. */
  #plan(tasks, guess) {
    const names = (Array.isArray(tasks) ? tasks : []).map((task) => asText(task?.name ?? task));
    const kept = new Set(names);
    this.rows = this.rows.filter((row) => {
      const stays = !row.guess || row.bars.length > 0 || kept.has(row.name);
      if (!stays) this.#byKey.delete(`task ${row.name}`);
      return stays;
    });
    for (const name of names) {
      const isNew = !this.#byKey.has(`task ${name}`);
      const row = this.#row(name, 'task');
      row.guess = guess && (isNew || row.guess);
    }
  }

  #note(name, note, kind = 'stage') {
    const row = this.#byKey.get(`${kind} ${name}`);
    if (row) row.note = note;
  }

  #row(name, kind) {
    const key = `${kind} ${name}`;
    let row = this.#byKey.get(key);
    if (!row) {
      row = { name, kind, bars: [], state: 'waiting', note: '', guess: false };
      this.#byKey.set(key, row);
      this.rows.push(row);
    }
    return row;
  }

  #open(name, kind, at) {
    const row = this.#row(name, kind);
    const last = row.bars.at(-1);
    if (last && last.to === null) { // another server resumed the build and began this step again
      last.to = at;
      last.state = 'stopped';
    }
    push(row, { from: at, to: null, state: 'running' });
    row.state = 'running';
  }

  /** Adds the bar of a row that was never opened. */
  #close(name, kind, at, state, ms) {
    const row = this.#row(name, kind);
    let bar = row.bars.at(-1);
    if (!bar || bar.to !== null) push(row, (bar = { from: Math.max(this.from, at - asNumber(ms)), to: null, state }));
    bar.to = at;
    bar.state = row.state = state;
  }

  /** The build is over: running steps ended with it. */
  #end(at, state) {
    this.over = true;
    for (const row of this.rows) {
      const bar = row.bars.at(-1);
      if (row.state === 'retried') row.state = 'stopped'; // its next attempt will not happen
      if (!bar || bar.to !== null) continue;
      bar.to = at;
      bar.state = row.state = state === 'failed' && row.kind === 'stage' ? 'failed' : 'stopped';
    }
  }
}

/** How far a deploy is. */
function sent({ percent, uploaded, total }) {
  if (asNumber(total) > 0) return `${Math.floor((asNumber(uploaded) / total) * 100)} %, ${asNumber(uploaded).toLocaleString('en')} of ${plural(total, 'file')}`;
  return asNumber(percent) > 0 ? `${Math.floor(percent)} %` : '';
}

function push({ bars }, bar) {
  bars.push(bar);
  if (bars.length <= most) return;
  const [first, second] = bars;
  bars.splice(0, 2, { ...second, from: first.from });
}

/** The name of a stage's row. */
const title = (stage) => {
  const text = asText(stage);
  if (text === 'planning') return 'Plan';
  return text.charAt(0).toUpperCase() + text.slice(1);
};

/** Round times between 0 and `span` ms, at most `most` of them after 0. */
export function ticks(span, most) {
  const steps = [100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000];
  const step = steps.find((s) => span / s <= most) ?? Math.ceil(span / most / 86_400_000) * 86_400_000;
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, i) => i * step);
}
