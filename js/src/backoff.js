/** How long to wait before the next attempt: short at first, then doubling, with jitter so that clients spread out. */
export class Backoff {
  #tries = 0;

  /** @param {import('./timing.js').Timing} timing */
  constructor(timing) {
    this.timing = timing;
    /** The wait after the quick one; a stream's `retry:` sets it. */
    this.base = timing.retry;
  }

  /**
   * @param {number} [atLeast] what the server asked for, in milliseconds
   * @returns {number} milliseconds
   */
  next(atLeast = 0) {
    const { quick, retryMax } = this.timing;
    const tries = this.#tries++;
    const spread = Math.random();
    if (atLeast > 0) return Math.min(atLeast, 3_600_000) * (1 + spread / 4); // never earlier than asked
    if (tries === 0) return quick * spread;
    return Math.min(this.base * 2 ** (tries - 1), retryMax) * (0.5 + spread / 2);
  }

  /** A connection has worked: the next wait is short again, but not the quick first one. */
  ease() {
    this.#tries = Math.min(this.#tries, 1);
  }

  reset() {
    this.#tries = 0;
  }
}
