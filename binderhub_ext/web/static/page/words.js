/** Every sentence that the script says. */

/** @param {number} count */
const number = (count) => count.toLocaleString("en");

export const WORDS = {
  /** What each step is called in the list. @type {Record<string, string>} */
  steps: {
    resolving: "Find the repository",
    checking: "Look for its image",
    queued: "Wait in line",
    building: "Build the image",
    launching: "Start the server",
  },

  /** What is going on, as the headline. @type {Record<string, string>} */
  headlines: {
    starting: "Starting",
    resolving: "Finding the repository",
    checking: "Looking for its image",
    queued: "Waiting in line",
    building: "Building the image",
    launching: "Starting the server",
    ready: "Ready: opening your server",
    failed: "The launch failed",
  },

  /** The same in the tab's title: short. @type {Record<string, string>} */
  titles: {
    starting: "Starting",
    resolving: "Finding",
    checking: "Checking",
    queued: "In line",
    building: "Building",
    launching: "Launching",
    ready: "Ready",
    failed: "Failed",
    lost: "Reconnecting",
  },

  /** Read to those who do not see the symbols of the list. @type {Record<string, string>} */
  statuses: { todo: "to do", active: "in progress", done: "done", skipped: "not needed", failed: "failed" },

  skipped: "not needed",
  lost: "Connection lost, reconnecting; your launch goes on.",
  found: "Connected again.",
  place: (position) => `Place ${number(position)} in line`,
  lines: (count) => (count === 1 ? "1 line" : `${number(count)} lines`),
  earlierLines: (count) => `${number(count)} earlier lines are not shown. “Copy log” has them.`,
  atMost: (text) => `at most ${text} more`,
  reference: (code, reference) => [code, reference && `reference ${reference}`].filter(Boolean).join(" · "),
  copied: "Copied",
  notCopied: "Could not copy",

  gone: {
    title: "This launch is no longer known",
    hint: "It has ended, or another page has taken it to its end. Try again to start a new one.",
    retryable: true,
    code: "page.launch_gone",
  },
  refused: (status) => ({
    title: "The launch cannot be followed any more",
    hint: "Try again. When that does not help, ask those who run this BinderHub.",
    detail: `The event stream was refused with HTTP ${status}.`,
    retryable: true,
    code: "page.stream_refused",
  }),
  badAddress: {
    title: "The server is ready, but its address cannot be opened",
    hint: "Ask those who run this BinderHub: its Hub's address is not one of http or https.",
    retryable: false,
    code: "page.bad_address",
  },
};

/**
 * A time that runs, in whole seconds: 4 s, 1:05 min, 2:00:10 h.
 *
 * @param {number} seconds
 */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)} min`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)} h`;
}

/**
 * A time that was measured: with a tenth while that says something.
 *
 * @param {number} seconds
 */
export function duration(seconds) {
  return seconds < 9.95 ? `${seconds.toFixed(1)} s` : clock(seconds + 0.5);
}
