import { BuildError } from '../error.js';
import { readOn, readStatus } from '../http.js';

/** @import { Attempt } from '../attempt.js' */

const first = 1000; // ms: the first poll waits less, so that it soon shows whether polls get through
const frame = 50; // ms: what a busy build does within a frame comes together

/**
 * Polls that the server holds until there is something.
 * @param {Attempt} attempt
 */
export const longpoll = (attempt) => follow(attempt, attempt.host.timing.wait);

/**
 * Short polls: what gets through where nothing else does.
 * @param {Attempt} attempt
 */
export const poll = (attempt) => follow(attempt, 0);

/**
 * Polls until the build is over.
 * @param {Attempt} attempt
 * @param {number} wait milliseconds; 0: short polls
 */
async function follow(attempt, wait) {
  const { host, signal } = attempt;
  const { poll, pollIdle } = host.timing;
  let hold = Math.min(first, wait);
  let pause = poll;
  let early = 0;
  for (;;) {
    await readStatus(host, signal);
    const began = Date.now();
    const asked = host.cursor.start ? 0 : hold; // where it begins must be known before it waits
    const { events, more } = await readOn(host, signal, asked, () => attempt.opened());
    if (signal.aborted) return;
    if (more) continue;
    if (host.cursor.over) return host.finish();
    const held = asked > 0 && Date.now() - began >= asked / 2;
    if (events.length || held) {
      early = 0;
      pause = wait ? frame : poll;
    } else {
      if (wait && ++early > 2) throw new BuildError('stalled'); // somebody answers at once
      pause = Math.min(pause * 1.5, pollIdle);
    }
    hold = wait;
    await attempt.sleep(pause);
  }
}
