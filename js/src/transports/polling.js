import { BuildError } from '../error.js';
import { readOn, readStatus } from '../http.js';

/** @import { Attempt } from '../attempt.js' */

const first = 1000; // ms: the first poll waits less, so that a blocked network is noticed soon
const frame = 50; // ms: events of a busy build within a frame arrive together

/**
 * Polls that the server holds until there are events.
 * @param {Attempt} attempt
 */
export const longpoll = (attempt) => follow(attempt, attempt.host.timing.wait);

/**
 * Short polls: they work on networks that block all other transports.
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
    const asked = host.cursor.start ? 0 : hold; // the starting cursor must be known before it waits
    const { events, more } = await readOn(host, signal, asked, () => attempt.opened());
    if (signal.aborted) return;
    if (more) continue;
    if (host.cursor.over) return host.finish();
    const held = asked > 0 && Date.now() - began >= asked / 2;
    if (events.length || held) {
      early = 0;
      pause = wait ? frame : poll;
    } else {
      if (wait && ++early > 2) throw new BuildError('stalled'); // a proxy answers at once instead of waiting
      pause = Math.min(pause * 1.5, pollIdle);
    }
    hold = wait;
    await attempt.sleep(pause);
  }
}
