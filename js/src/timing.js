/**
 * Every time span of the client, in milliseconds. Tests make them short; pages seldom need to.
 * @typedef {typeof defaults} Timing
 */
export const defaults = {
  /** To the subscription over WebSocket, to the headers of an answer, to the whole of a short one. */
  connect: 5_000,
  /** From the headers of a stream to its first byte. The server writes at once, so a delay means that a proxy buffers. */
  firstByte: 3_000,
  /** How long a stream may be silent. The server sends a heartbeat every 15 s. */
  heartbeat: 22_000,
  /** How long the server holds a long poll. */
  wait: 25_000,
  /** Between polls while events arrive, and the longest pause while none do. */
  poll: 1_000,
  pollIdle: 5_000,
  /** A connection that lives this long is a good one; after `flaps` shorter ones in a row the next transport is used. */
  stable: 10_000,
  flaps: 3,
  /** When a better transport is tried again: first, and at most. */
  probe: 30_000,
  probeMax: 600_000,
  /** The first retry is within `quick`, the next after `retry`, then doubling up to `retryMax`. */
  quick: 250,
  retry: 1_000,
  retryMax: 30_000,
  /** How long a hidden page stays connected. */
  hidden: 30_000,
  /** If the clock jumps by more than this, the machine was asleep; it is checked each `tick`. */
  drift: 8_000,
  tick: 2_000,
  /** The leading tab sends a message each `beat`; after three silent ones it is replaced. */
  beat: 5_000,
};
