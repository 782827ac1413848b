// What was asked for: the prompt, the build that this one repeats, and repeating this one.

import { $, el, setText } from './dom.js';
import { isFinished } from './format.js';
import { buildPath, call, home } from './api.js';
import { close, offer } from './asking.js';

const pageOf = (id) => `${home}builds/${encodeURIComponent(id)}`;

const fromWhere = {
  completed: 'From the deploy: all that is completed is taken over',
  failed: 'From where it failed: what is completed is taken over',
  cancelled: 'From where it was cancelled: what is completed is taken over',
};

export class Request {
  #id;
  #build = null; // as it was created
  #reading = false;

  constructor(buildId) {
    this.#id = buildId;
    offer($('retry'), $('again'), 'be repeated', async (key) => {
      const from = $('again-form').elements.from.value;
      const { id } = await call(`${buildPath(this.#id)}/retry`, { method: 'POST', body: { from }, key });
      location.assign(pageOf(id));
    });
  }

  /** The build exists no more, or is another one. */
  forget() {
    this.#build = null;
    this.#reading = false;
    $('retry').hidden = $('asked').hidden = $('of').hidden = true;
    close('again');
  }

  /** Shows what suits the build's status. */
  async show(status) {
    if (!this.#build && !this.#reading) await this.#read();
    const ours = this.#build?.plan || this.#build?.prompt; // otherwise another program runs it
    $('retry').hidden = !ours || !isFinished(status);
    setText($('from-failed'), fromWhere[status.status] ?? '');
  }

  async #read() {
    this.#reading = true;
    try {
      const build = await call(buildPath(this.#id));
      if (!this.#reading) return;
      this.#build = build;
      this.#draw(build);
    } catch {
      this.#reading = false; // tried again with the next event
    }
  }

  #draw({ prompt, retryOf, retryFrom }) {
    $('asked').hidden = !prompt;
    setText($('asked-first'), prompt ?? '');
    setText($('asked-all'), prompt ?? '');
    $('of').hidden = !retryOf;
    if (!retryOf) return;
    const link = Object.assign(el('a', 'mono', retryOf), { href: pageOf(retryOf) });
    $('of-build').replaceChildren(link, retryFrom === 'start' ? ' from the start' : '');
  }
}
