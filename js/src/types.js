// The shapes on the wire and the options. Types only: nothing here runs.

/**
 * The fields of an event's data that buildcast reads. They are untrusted: the server does not check their types.
 * @typedef {object} KnownData
 * @property {string} [message] for people
 * @property {string} [error]
 * @property {string} [taskName]
 * @property {number} [attempt] from 1
 * @property {boolean} [willRetry] another attempt follows
 * @property {number} [durationMs]
 * @property {number} [taskCount]
 * @property {string[]} [tasks] their names
 * @property {number} [index] of the task in the plan, from 1
 * @property {number} [filesCreated]
 * @property {number} [exitCode]
 * @property {string} [output] the end of the failed command's output
 * @property {string} [stage] such as `install`
 * @property {boolean} [done] the stage is over
 * @property {number} [percent] of the deploy, 0-100
 * @property {string} [target] of the deploy
 * @property {string} [previewUrl]
 * @property {string[]} [lines] of output
 * @property {string} [line] of output
 * @property {number} [dropped] lines of output that are missing
 * @property {boolean} [cached] an earlier result took the place of the work
 * @property {string} [originBuildId] whose result that is
 * @property {number} [savedMs] what the work took there
 * @property {string} [sandbox] of all commands: `bwrap` or `none`
 * @property {string} [planner] who made the plan
 * @property {string} [model] of the planner
 * @property {string} [requestId] the planner's provider's
 * @property {'plan'|'files'} [purpose] what the planner was asked for
 * @property {number} [inputTokens]
 * @property {number} [outputTokens]
 * @property {number} [cacheReadTokens] of the provider's cache
 * @property {number} [cacheWriteTokens]
 * @property {number|null} [costUsd] null: not known
 * @property {number} [uploaded] files
 * @property {number} [total] files
 */

/** @typedef {KnownData & {[name: string]: unknown}} OtherData of types that are not buildcast's own */

/**
 * The data of each type that buildcast knows.
 * @typedef {object} EventData
 * @property {Pick<KnownData, 'message'|'sandbox'>} plan_started
 * @property {Pick<KnownData, 'message'|'tasks'|'outputTokens'>} plan_progress
 * @property {Pick<KnownData, 'message'|'purpose'|'taskName'|'planner'|'model'|'requestId'|'inputTokens'|'outputTokens'|'cacheReadTokens'|'cacheWriteTokens'|'costUsd'|'cached'>} planner_usage
 * @property {Pick<KnownData, 'message'|'taskCount'|'tasks'|'planner'|'model'>} plan_generated
 * @property {Pick<KnownData, 'message'|'taskName'|'index'|'attempt'>} task_started
 * @property {Pick<KnownData, 'message'|'taskName'|'index'|'attempt'|'filesCreated'|'durationMs'|'cached'|'originBuildId'|'savedMs'>} task_completed
 * @property {Pick<KnownData, 'message'|'taskName'|'index'|'attempt'|'willRetry'|'error'|'exitCode'|'output'|'durationMs'>} task_failed
 * @property {Pick<KnownData, 'message'|'target'>} deploy_started
 * @property {Pick<KnownData, 'message'|'percent'|'uploaded'|'total'>} deploy_progress
 * @property {Pick<KnownData, 'message'|'target'|'previewUrl'|'durationMs'>} deploy_completed
 * @property {Pick<KnownData, 'message'|'target'|'error'|'exitCode'|'output'>} deploy_failed
 * @property {Pick<KnownData, 'message'|'stage'>} build_started
 * @property {Pick<KnownData, 'message'|'stage'|'percent'|'done'|'durationMs'|'cached'|'originBuildId'|'savedMs'>} build_progress
 * @property {Pick<KnownData, 'message'>} build_completed
 * @property {Pick<KnownData, 'message'|'stage'|'error'|'exitCode'|'output'|'requestId'>} build_failed
 * @property {Pick<KnownData, 'message'>} build_cancelled
 * @property {Pick<KnownData, 'message'|'taskName'|'stage'|'lines'|'line'|'dropped'|'cached'>} build_log
 */

/**
 * @template {string} Type
 * @template Data
 * @typedef {object} EventOf
 * @property {number} id
 * @property {string} buildId
 * @property {Type} type such as `task_completed`
 * @property {Data} data
 * @property {number} progress of the build after this event, 0-100
 * @property {string} timestamp RFC 3339, UTC, milliseconds
 */

/**
 * One stored entry of a build's log. Ids are 1, 2, 3, … within a build, without gaps. The type determines the data; a
 * log may hold any other type too.
 * @typedef {{[Type in keyof EventData]: EventOf<Type, EventData[Type]>}[keyof EventData] | EventOf<string, OtherData>} BuildEvent
 */

/** @typedef {'queued'|'planning'|'executing'|'deploying'|'completed'|'failed'|'cancelled'} Phase */

/**
 * The result of folding a build's log.
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
 * @property {number} firstEventId the first event that is kept: 1, unless the log was cut from the front
 * @property {number} lastEventId the last event that this includes
 */

/**
 * What the server reports of a log in addition to its events.
 * @typedef {object} Told
 * @property {number} [after] the cursor that it begins with
 * @property {number} [firstEventId] the first event that is kept
 * @property {number} [lastEventId] the last event of the log
 * @property {Status|null} [status] null: the build does not exist yet
 */

/** @typedef {'websocket'|'sse'|'longpoll'|'poll'} Transport the best first */

/**
 * What a poll answers.
 * @typedef {object} Page
 * @property {BuildEvent[]} events
 * @property {number} firstEventId the first event that is kept
 * @property {number} lastEventId the cursor to send next
 * @property {boolean} hasMore
 */

/** @typedef {string | (() => string | undefined | Promise<string | undefined>)} Token */

/**
 * @typedef {object} Options
 * @property {string} [url] where buildcast is: `https://host` or `https://host/prefix`; default: the page's origin.
 *   Node needs it.
 * @property {number} [lastEventId] the last event that was seen already; default 0: all events that are kept
 * @property {'latest'} [from] in place of lastEventId: only new events
 * @property {number} [tail] in place of lastEventId: the last so many events, 1-1000, and new ones
 * @property {Token} [token] sent as `Authorization: Bearer` and as Socket.IO auth; a function is called for each
 *   connection, so that it can return a fresh one
 * @property {Transport[]} [transports] those that may be used, the best first; default all
 * @property {boolean|string} [share] share one connection between the tabs of an origin; default true if the browser
 *   can. Tabs share only with tabs that have the same string.
 * @property {typeof WebSocket} [WebSocket] for Node 20, which has none: `import { WebSocket } from 'ws'`
 * @property {typeof fetch} [fetch] in place of the global one
 * @property {Partial<import('./timing.js').Timing>} [timing] in milliseconds
 */

/**
 * The details of the events that BuildProgress dispatches.
 * @typedef {object} Details
 * @property {{buildId: string, events: BuildEvent[], lastEventId: number, status: Status|null}} update new events, in
 *   order and without a gap. The status may be ahead of them while a long log is read.
 * @property {Status} status a visible part of the status has changed
 * @property {{buildId: string}} missing the build does not exist yet: the client waits for it
 * @property {{from: number, to: number}} gap these events were missed and are no longer kept; the next one is `to + 1`
 * @property {{transport: Transport|null, shared: boolean}} transport in use now, `shared` if another tab has it; null:
 *   none
 * @property {{status: Status|null, lastEventId: number}} end the build is finished and all its events were dispatched
 * @property {import('./error.js').BuildError} error if `fatal` is true, no more events follow
 */

/**
 * The events that BuildProgress dispatches.
 * @typedef {{[Type in keyof Details]: CustomEvent<Details[Type]>} & {close: Event}} Events
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
 * @property {(events: BuildEvent[], told?: Told) => void} take dispatches the new events
 * @property {() => void} finish the log has been read to its end, and will not grow
 * @property {(error: import('./error.js').BuildError) => void} failed moves a cursor that is outside the
 *   log, reports any other error, and closes everything if it is fatal
 * @property {Transport|null} transport the one that delivers events now
 * @property {boolean} shared another tab has the connection
 * @property {(transport: Transport|null, shared?: boolean) => void} carried sets both
 */

export {};
