/** @import { BuildEvent, Phase, Status } from './types.js' */

/** The phase and the default message that an event of each type sets. */
const meanings = {
  __proto__: null, // a type may be called constructor
  plan_started: ['planning', 'Planning'],
  plan_generated: ['executing', 'Plan ready'],
  task_started: ['executing', 'Task started'],
  task_completed: ['executing', 'Task completed'],
  task_failed: ['failed', 'Task failed, trying again'],
  deploy_started: ['deploying', 'Deploying'],
  build_started: ['deploying', 'Building'],
  build_progress: ['deploying', 'Building'],
  deploy_progress: ['deploying', 'Deploying'],
  deploy_completed: ['completed', 'Deployed'],
  build_completed: ['completed', 'Completed'],
  deploy_failed: ['failed'],
  build_failed: ['failed'],
  build_cancelled: ['cancelled', 'Cancelled'],
};

/** @param {Status|null} status */
export const isTerminal = (status) => /^(completed|failed|cancelled)$/.test(status?.status ?? '');

/**
 * The status of a build that has no events.
 * @param {string} buildId
 * @returns {Status}
 */
export const queued = (buildId) => ({
  buildId, project: '', status: 'queued', progress: 0, message: 'Queued',
  tasks: { total: 0, started: 0, completed: 0, failed: 0 },
  previewUrl: '', error: '', createdAt: '', startedAt: null, updatedAt: '', finishedAt: null, firstEventId: 1, lastEventId: 0,
});

/** The longest text that a status copies from an event, in bytes of UTF-8. */
const maxText = 1000;

/** @param {string} whole */
function clip(whole) {
  const bytes = new TextEncoder().encode(whole);
  let end = maxText;
  if (bytes.length <= end) return whole;
  while ((bytes[end] & 0xc0) === 0x80) end--; // not in the middle of a character
  return `${new TextDecoder().decode(bytes.subarray(0, end))}…`;
}

/** A field of another type counts as absent, as in the server's fold: data is untrusted. */
const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? clip(value) : '');
const count = (/** @type {unknown} */ value) => (Number.isSafeInteger(value) ? Math.max(Number(value), 0) : 0);

/**
 * The status after the event that follows it. Streams and polls carry events only; this is the server's fold except for
 * the progress, which each event carries.
 * @param {Status} before is not changed
 * @param {BuildEvent} event
 * @returns {Status}
 */
export function fold(before, { id, type, data, progress, timestamp }) {
  if (isTerminal(before)) return { ...before, lastEventId: id };
  const given = /** @type {import('./types.js').OtherData} */ (data ?? {});
  const [taskName, message, previewUrl, error] = [given.taskName, given.message, given.previewUrl, given.error].map(text);
  const tasks = { ...before.tasks };
  const retried = type === 'task_failed' && given.willRetry === true;
  /** @type {Status} */
  const after = { ...before, tasks, progress, lastEventId: id, updatedAt: timestamp };
  const [phase, sentence] = /** @type {string[]} */ (/** @type {any} */ (meanings)[type] ?? []);
  if (phase && !retried) after.status = /** @type {Phase} */ (phase);
  after.startedAt ??= timestamp;
  after.createdAt ||= timestamp;
  if (type === 'plan_generated') tasks.total = count(given.taskCount);
  if (type === 'task_started' && count(given.attempt) < 2) tasks.started++; // a repeated task counts once
  if (type === 'task_completed') tasks.completed++;
  if (type === 'task_failed' && !retried) tasks.failed++;
  if (type === 'deploy_completed') after.previewUrl = previewUrl;
  if (isTerminal(after)) after.finishedAt = timestamp;
  const failed = after.status === 'failed';
  if (failed) after.error = error || message || `failed at ${type}`;
  if (message || failed) after.message = message || after.error;
  else if (sentence) after.message = taskName ? clip(`${sentence}: ${taskName}`) : sentence;
  return after;
}
