/** Milliseconds as people read them: 840 ms, 4.2 s, 1 m 05 s, 2 h 03 m. */
export function duration(ms) {
  if (!(ms >= 0)) return '–';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const two = (n) => String(n).padStart(2, '0');
  const s = Math.floor(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  const h = Math.floor(s / 3600);
  return h < 48 ? `${h} h ${two(Math.floor((s % 3600) / 60))} m` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** What an event's untrusted data say of a step whose result was there already: cached, saved 41 s. */
export function saved({ cached, savedMs }) {
  if (cached !== true) return '';
  return asNumber(savedMs) > 0 ? `cached, saved ${duration(savedMs).replace(/(\d\d)\.\d s/, '$1 s')}` : 'cached';
}

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

/** How long ago: "12 seconds ago"; the date after a week. */
export function ago(stamp, now) {
  const s = Math.max(0, (now - Date.parse(stamp)) / 1000);
  if (s < 5) return 'just now';
  for (const [size, unit] of [[60, 'second'], [3600, 'minute'], [86_400, 'hour'], [604_800, 'day']]) {
    const of = { second: 1, minute: 60, hour: 3600, day: 86_400 }[unit];
    if (s < size) return relative.format(-Math.floor(s / of), unit);
  }
  return new Date(stamp).toLocaleDateString('en', { day: 'numeric', month: 'short', year: 'numeric' });
}

/** The time of day, 24 hours, with seconds. */
export const timeOfDay = (stamp) => new Date(stamp).toLocaleTimeString('en', { hour12: false });

export const isFinished = (status) => /^(completed|failed|cancelled)$/.test(status?.status ?? '');

/** How long the build took, or has run by now. */
export function took(status, now) {
  if (!status.startedAt) return '–';
  return duration((status.finishedAt ? Date.parse(status.finishedAt) : Math.max(now, Date.parse(status.updatedAt))) - Date.parse(status.startedAt));
}

export const words = {
  queued: 'Queued', planning: 'Planning', executing: 'Executing', deploying: 'Deploying',
  completed: 'Completed', failed: 'Failed', cancelled: 'Cancelled',
};

export const transports = { websocket: 'WebSocket', sse: 'SSE', longpoll: 'long poll', poll: 'polling' };

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

/** The text about events that are no longer kept. */
export const missed = (from, to) => (from === to ? `Event ${from} is no longer kept.` : `Events ${from}–${to} are no longer kept.`);

/** Returns the link if it is safe: a preview URL is untrusted and could be a javascript: URL. */
export function safeLink(text) {
  try {
    const url = new URL(text);
    return /^https?:$/.test(url.protocol) ? url.href : '';
  } catch {
    return '';
  }
}

/** Returns a number of an event's untrusted data; 0 if it is not a number. */
export const asNumber = (value) => (Number.isFinite(value) ? value : 0);

/** Converts any value to a text that can be shown. */
export const asText = (value) => (typeof value === 'string' ? value : value == null ? '' : JSON.stringify(value));
