import { $, setText } from './dom.js';
import { asNumber, asText } from './format.js';

const sandboxes = { bwrap: 'bubblewrap', none: 'none' };

/** What a build's events say of who planned it, what that cost, and what confines its commands. */
export class Facts {
  constructor() {
    this.clear();
  }

  clear() {
    this.sandbox = this.planner = this.model = '';
    this.read = this.written = this.cost = 0; // tokens, tokens, US dollars
    this.asked = this.unpaid = 0; // answers
    this.unknown = false; // what an answer costs
    this.draw();
  }

  /** @returns {boolean} there is something to draw */
  add({ type, data }) {
    const d = data ?? {};
    if (type === 'plan_started') {
      this.sandbox = asText(d.sandbox);
    } else if (type === 'plan_generated') {
      this.#who(d);
    } else if (type === 'planner_usage') {
      this.#who(d);
      this.asked++;
      if (d.cached === true) this.unpaid++;
      else this.#pay(d);
    } else {
      return false;
    }
    return true;
  }

  #who({ planner, model }) {
    this.planner = asText(planner) || this.planner;
    this.model = asText(model) || this.model;
  }

  #pay({ inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens, costUsd }) {
    this.read += asNumber(inputTokens) + asNumber(cacheReadTokens) + asNumber(cacheWriteTokens);
    this.written += asNumber(outputTokens);
    this.cost += asNumber(costUsd);
    if (costUsd == null && asNumber(outputTokens) > 0) this.unknown = true;
  }

  draw() {
    const { planner, model, read, written, asked, unpaid } = this;
    put('sandbox', Object.hasOwn(sandboxes, this.sandbox) ? sandboxes[this.sandbox] : this.sandbox);
    put('planner', [planner, model].filter(Boolean).join(' · '));
    put('tokens', read || written ? `${read.toLocaleString('en')} read, ${written.toLocaleString('en')} written` : '');
    const again = unpaid ? `${unpaid} of ${asked} answers kept from before` : '';
    const money = this.cost || !this.unknown ? `${this.unknown ? 'at least ' : ''}$${this.cost.toFixed(this.cost < 0.1 ? 4 : 2)}` : '';
    put('cost', read || written || unpaid ? [money, again].filter(Boolean).join(', ') : '');
  }
}

function put(name, text) {
  setText($(name), text);
  $(name).parentNode.hidden = !text;
}
