import { BuildProgress } from './index.js';

/** @import { BuildError } from './error.js' */
/** @import { BuildEvent, Options, Status, Transport } from './types.js' */

/**
 * A build as a page shows it. Each change makes a new object, as React requires.
 * @typedef {object} View
 * @property {Status|null} status null: not known yet, or `missing`
 * @property {boolean} missing the build does not exist yet: the client waits for it
 * @property {BuildEvent[]} events the newest, at most `maxEvents`
 * @property {{from: number, to: number}|null} gap events that were missed and are no longer kept, the last such
 * @property {Transport|null} transport
 * @property {BuildError|null} error the last one; null when events arrive again
 * @property {boolean} ended
 */

/** @type {View} */
export const nothing = {
  status: null, missing: false, events: [], gap: null, transport: null, error: null, ended: false,
};

/**
 * A build as a store for useSyncExternalStore. It is connected while it has subscribers.
 * @param {string|null|undefined} buildId
 * @param {Options & {maxEvents?: number}} options
 */
export function viewOf(buildId, { maxEvents = 1000, ...options }) {
  let view = nothing;
  return {
    read: () => view,
    /** @param {() => void} changed */
    subscribe(changed) {
      if (!buildId) return () => {};
      view = nothing;
      const progress = new BuildProgress(buildId, options);
      const show = (/** @type {Partial<View>} */ part) => {
        view = { ...view, ...part };
        changed();
      };
      progress.addEventListener('update', ({ detail }) => {
        show({ events: [...view.events, ...detail.events].slice(-maxEvents), status: detail.status, missing: false, error: null });
      });
      progress.addEventListener('status', ({ detail }) => show({ status: detail, missing: false }));
      progress.addEventListener('missing', () => show({ status: null, missing: true }));
      progress.addEventListener('gap', ({ detail }) => show({ gap: detail }));
      progress.addEventListener('transport', ({ detail: { transport } }) => {
        show(transport ? { transport, error: null } : { transport });
      });
      progress.addEventListener('error', ({ detail }) => {
        show(detail.code === 'cursor_ahead' ? { error: detail, events: [] } : { error: detail });
      });
      progress.addEventListener('end', ({ detail }) => show({ ended: true, transport: null, status: detail.status }));
      return () => progress.close();
    },
  };
}
