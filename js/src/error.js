/** An error of the client or the server. Branch on `code`; the message is for people. */
export class BuildError extends Error {
  /** No more events follow: the client is closed. */
  fatal = false;

  /**
   * @param {string} code the server's own, such as `cursor_ahead` or `overloaded`; or the client's: `refused` (there was
   *   no connection), `cut`, `stalled` (it is open and nothing comes), `gap` (events are missing), `bad_answer`,
   *   `unreachable` (no transport works at the moment), `http_502` and the like from what stands between
   * @param {string} [message]
   * @param {unknown} [cause]
   */
  constructor(code, message = code, cause) {
    super(message, { cause });
    this.name = 'BuildError';
    this.code = code;
    /** How long the server asks the client to wait, in milliseconds; 0: unknown. */
    this.retryAfter = 0;
    /** The first event that is kept, of `cursor_gone`. */
    this.firstEventId = 0;
  }

  /**
   * Any thrown value as a BuildError.
   * @param {any} thrown
   * @param {string} code
   */
  static from(thrown, code) {
    return thrown instanceof BuildError ? thrown : new BuildError(code, String(thrown?.message ?? thrown), thrown);
  }

  /**
   * An error as the server tells it: problem+json, or its like on a stream.
   * @param {{code?: string, detail?: string, message?: string, retryAfter?: number,
   *   firstEventId?: number}} problem retryAfter in seconds
   */
  static told({ code = 'refused', detail, message = detail, retryAfter, firstEventId = 0 }) {
    const error = new BuildError(code, message);
    error.retryAfter = retryAfter ? retryAfter * 1000 : 0;
    error.firstEventId = firstEventId;
    return error;
  }
}
