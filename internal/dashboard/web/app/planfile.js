import { $, setText } from './dom.js';
import { plural } from './format.js';
import { call } from './api.js';

const maxSize = 1 << 20; // bytes, as the server's

/** Reads a file that a user has chosen. */
export async function planOf(chosen) {
  const { name, size } = chosen;
  if (size > maxSize) return { name, error: 'it is larger than 1 MiB: a plan file is smaller' };
  try {
    return { name, text: await chosen.text() };
  } catch {
    return { name, error: 'it cannot be read' };
  }
}

/** A plan file, what the server says of it, and where the page shows both. */
export class PlanFile {
  #name = '';
  text = '';
  /** The plan, if the server has checked it. */
  plan = null;
  /** The server has refused it. */
  failed = false;

  take(name, text) {
    this.#name = name;
    this.text = text;
    this.plan = null;
    this.failed = false;
    this.#draw('', '');
  }

  /** The file cannot be sent. */
  refuse(name, why) {
    this.take(name, '');
    this.fail(`${name}: ${why}`);
  }

  fail(message) {
    this.failed = true;
    this.#draw('', message);
    $('plan-error').focus();
  }

  show(yes) {
    $('plan').hidden = !yes || !this.#name;
  }

  /** Returns the plan. What is wrong with it is shown, and thrown. */
  async check(key) {
    const { text } = this;
    if (this.plan) return this.plan;
    this.failed = false;
    try {
      const { plan } = await call('api/plans/validate', { method: 'POST', key, body: { name: this.#name, content: text } });
      if (text !== this.text) return plan; // another file was chosen meanwhile
      this.plan = plan;
    } catch (error) {
      if (text === this.text && (error.status === 400 || error.status === 413)) this.fail(error.message);
      throw error;
    }
    this.#draw(summary(this.plan), '');
    return this.plan;
  }

  #draw(good, bad) {
    setText($('plan-name'), this.#name);
    setText($('plan-text'), this.text);
    setText($('plan-ok'), good);
    setText($('plan-error'), bad);
    $('plan-error').hidden = !bad;
    $('plan').hidden = false;
    $('plan').querySelector('details').hidden = !this.text;
  }
}

function summary({ name, tasks = [], install, build, detect }) {
  const steps = [plural(tasks.length, 'task'), (install || detect) && 'install', (build || detect) && 'build'].filter(Boolean);
  return `${name}: ${steps.join(', ')}`;
}
