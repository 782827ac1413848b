// The shapes on the wire and the options. Types only: nothing here runs.

/**
 * One stored entry of a build's log. Ids are 1, 2, 3, … within a build, without gaps.
 * @typedef {object} BuildEvent
 * @property {number} id
 * @property {string} buildId
 * @property {string} type such as `task_completed`
 * @property {any} data
 * @property {number} progress of the build after this event, 0-100
 * @property {string} timestamp RFC 3339, UTC, milliseconds
 */

/** @typedef {'queued'|'planning'|'executing'|'deploying'|'completed'|'failed'|'cancelled'} Phase */

/**
 * What a build's log folds to.
 * @typedef {object} Status
 * @property {string} buildId
 * @property {string} project
 * @property {Phase} status
 * @property {number} progress 0-100; never falls
 * @property {string} message for people
 * @property {{total: number, started: number, completed: number, failed: number}} tasks
 * @property {string} previewUrl
 * @property {string} error
 * @property {string} createdAt
 * @property {string|null} startedAt
 * @property {string} updatedAt
 * @property {string|null} finishedAt
 * @property {number} lastEventId the event up to which this is true
 */

/** @typedef {'websocket'|'sse'|'longpoll'|'poll'} Transport the best first */

/**
 * What a poll answers.
 * @typedef {object} Page
 * @property {BuildEvent[]} events
 * @property {number} lastEventId
 * @property {boolean} hasMore
 */

/** @typedef {string | (() => string | undefined | Promise<string | undefined>)} Token */

/**
 * @typedef {object} Options
 * @property {string} [url] where buildcast is: `https://host` or `https://host/prefix`; default: the page's origin.
 *   Node needs it.
 * @property {number} [lastEventId] the last event that was seen already; default 0: all events come
 * @property {Token} [token] sent as `Authorization: Bearer` and as Socket.IO auth; a function is asked again for each
 *   connection, so that it can give a fresh one
 * @property {Transport[]} [transports] those that may be used, the best first; default all
 * @property {boolean|string} [share] share one connection between the tabs of an origin; default true where the browser
 *   can. A string keeps those with another string apart.
 * @property {typeof WebSocket} [WebSocket] for Node 20, which has none: `import { WebSocket } from 'ws'`
 * @property {typeof fetch} [fetch] in place of the global one
 * @property {Partial<import('./timing.js').Timing>} [timing] in milliseconds
 */

/**
 * The details of the events that BuildProgress dispatches.
 * @typedef {object} Details
 * @property {{buildId: string, events: BuildEvent[], lastEventId: number, status: Status|null}} update new events, in
 *   order and without a gap. The status may be ahead of them while a long log is read.
 * @property {Status} status what a person sees of the status has changed
 * @property {{transport: Transport|null, shared: boolean}} transport in use now, `shared` where another tab has it; null:
 *   none
 * @property {{status: Status|null, lastEventId: number}} end the build is finished and all its events were given
 * @property {import('./error.js').BuildError} error `fatal` says that nothing more will come
 */

/**
 * What transports, connection and sharing need of a BuildProgress.
 * @typedef {object} Host
 * @property {string} buildId
 * @property {string} url without a slash at the end
 * @property {import('./cursor.js').Cursor} cursor
 * @property {import('./timing.js').Timing} timing
 * @property {typeof fetch} fetch
 * @property {typeof WebSocket|undefined} WebSocket
 * @property {() => Promise<string|undefined>} token
 * @property {boolean} renewable the token is a function: a refused one may be replaced
 * @property {(events: BuildEvent[], status?: Status|null) => void} take hands on what is new
 * @property {() => void} finish the log has been read to its end, and will not grow
 * @property {(error: import('./error.js').BuildError) => void} failed tells; ends everything where it is fatal
 * @property {Transport|null} transport what events come by now
 * @property {boolean} shared another tab has the connection
 * @property {(transport: Transport|null, shared?: boolean) => void} carried sets both
 */

export {};
