/**
 * How long to wait before the next attempt: full jitter over a growing, capped window, and
 * never less than half a second, so that a service that restarts is not met by everybody at once.
 *
 * @param {number} attempt 0, 1, 2, ...
 * @param {() => number} random in [0, 1)
 * @returns {number} milliseconds: 500 to 500 + min(15 s, 1 s * 2^attempt)
 */
export function backoff(attempt, random) {
  return 500 + random() * Math.min(15_000, 1000 * 2 ** attempt);
}
