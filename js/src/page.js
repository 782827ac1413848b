/**
 * Watches the page and the clock: a hidden page needs no connection, and after a sleep or a change of network the
 * connection may be dead. Outside of a browser it watches only the clock.
 * @param {{start: () => void, stop: () => void}} source start() also restarts
 * @param {import('./timing.js').Timing} timing
 * @returns {() => void} stops watching
 */
export function watchPage(source, timing) {
  const { document, window } = globalThis;
  const unwatch = new AbortController();
  let paused = false;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let grace;
  const pause = () => {
    clearTimeout(grace);
    paused = true;
    source.stop();
  };
  const look = () => {
    clearTimeout(grace);
    if (document.visibilityState === 'hidden') grace = setTimeout(pause, timing.hidden);
    else if (paused) renew();
  };
  const renew = () => {
    paused = false;
    source.start();
  };
  const changed = () => paused || renew();
  let before = Date.now();
  const clock = setInterval(() => {
    const slept = Date.now() - before - timing.tick > timing.drift;
    before = Date.now();
    if (slept) changed();
  }, timing.tick);
  if (document) {
    const on = (/** @type {EventTarget} */ target, /** @type {string} */ type, /** @type {() => void} */ listener) =>
      target.addEventListener(type, listener, unwatch);
    on(document, 'visibilitychange', look);
    on(window, 'pagehide', pause); // an open connection would keep it out of the back-forward cache
    on(window, 'pageshow', look);
    on(window, 'online', changed);
    look();
  }
  return () => {
    clearTimeout(grace);
    clearInterval(clock);
    unwatch.abort();
  };
}
