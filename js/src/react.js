import { useMemo, useSyncExternalStore } from 'react';
import { nothing, viewOf } from './view.js';

/** @import { Options } from './types.js' */
/** @import { View } from './view.js' */

/**
 * Follows a build while the component is mounted. It connects anew when the id, `url`, `lastEventId`, `from`, `tail`,
 * `share` or a token that is a string changes; other options are taken as they are then.
 * @param {string|null|undefined} buildId null or undefined: no build is followed
 * @param {Options & {maxEvents?: number}} [options] `maxEvents`: how many of the newest events are kept, 1000
 * @returns {View}
 */
export function useBuild(buildId, options = {}) {
  const { url, lastEventId, from, tail, share, token, maxEvents } = options;
  const known = [buildId, url, lastEventId, from, tail, share, typeof token === 'string' ? token : typeof token, maxEvents];
  const view = useMemo(() => viewOf(buildId, options), known);
  return useSyncExternalStore(view.subscribe, view.read, () => nothing);
}
