/**
 * The launch's event stream: one EventSource after the other, as if it were a single one.
 *
 * [spec] https://html.spec.whatwg.org/multipage/server-sent-events.html
 * An EventSource reconnects by itself after a dropped connection and says which event it saw
 * last. It gives up for good when a proxy answers for a service that restarts (502, 503), and
 * never notices a connection that is open and dead. Both are mended here, with the position
 * in the query, because a new EventSource cannot send the header.
 */

import { backoff } from "./backoff.js";

/** After so many refused attempts in a row, the next one asks for the reason first. */
const ASK_AFTER = 2;

export class LaunchEvents {
  /**
   * @param {object} options
   * @param {() => URL} options.url of the stream; asked before each connection, for the newest ticket
   * @param {(event: object) => void} options.onEvent each event once
   * @param {(state: "open" | "lost") => void} options.onConnection
   * @param {(status: number) => void} options.onRefused the stream is gone for good: 204, or a 4xx
   * @param {number} options.stallMs a connection that says nothing for so long is replaced
   * @param {object} [options.platform] EventSource, fetch, setTimeout, clearTimeout, random
   */
  constructor({ url, onEvent, onConnection, onRefused, stallMs, platform = defaultPlatform() }) {
    Object.assign(this, { url, onEvent, onConnection, onRefused, stallMs, platform });
    this.lastId = "";
    this.seen = new Set();
    this.refusals = 0;
    this.source = null;
    this.timer = null;
    this.ended = false;
  }

  open() {
    const url = this.#urlFromHere();
    const source = (this.source = new this.platform.EventSource(url.href));
    source.onopen = () => {
      this.refusals = 0;
      this.onConnection("open");
      this.#expectSomething();
    };
    source.onmessage = (message) => {
      this.#expectSomething();
      this.#take(message);
    };
    source.addEventListener("keepalive", () => source === this.source && this.#expectSomething());
    source.onerror = () => {
      if (this.ended || source !== this.source) return;
      this.onConnection("lost");
      // [spec] readyState 2: failed for good; otherwise the browser reconnects by itself
      if (source.readyState === 2) this.#tryAgain();
      else this.#expectSomething();
    };
    this.#expectSomething();
  }

  /** No more events, whatever arrives. */
  close() {
    this.ended = true;
    this.#drop();
  }

  /** The network came back: do not wait for the timer. */
  reconnectNow() {
    if (this.ended) return;
    this.#drop();
    this.open();
  }

  #drop() {
    this.source?.close();
    this.source = null;
    this.platform.clearTimeout(this.timer);
  }

  #urlFromHere() {
    const url = this.url();
    if (this.lastId) url.searchParams.set("last_event_id", this.lastId);
    return url;
  }

  #later(milliseconds, action) {
    this.platform.clearTimeout(this.timer);
    this.timer = this.platform.setTimeout(action, milliseconds);
  }

  /**
   * (Re)start the watch over a connection that may be dead. Scripts do not see the comments that keep it alive:
   * the stream's URL asks for events beside them.
   */
  #expectSomething() {
    if (!this.ended) this.#later(this.stallMs, () => this.reconnectNow());
  }

  #tryAgain() {
    this.#drop();
    const wait = backoff(this.refusals, this.platform.random);
    this.refusals += 1;
    this.#later(wait, () => (this.refusals > ASK_AFTER ? this.#askThenOpen() : this.open()));
  }

  /** An EventSource does not tell the status of a refusal; a plain request does. */
  async #askThenOpen() {
    const aborter = new AbortController();
    let status = 0;
    try {
      const headers = { Accept: "text/event-stream" };
      const response = await this.platform.fetch(this.#urlFromHere().href, { headers, signal: aborter.signal });
      status = response.status;
    } catch {
      // no connection: as before
    }
    aborter.abort();
    if (this.ended) return;
    const forGood = status === 204 || (status >= 400 && status < 500 && ![408, 425, 429].includes(status));
    if (forGood) {
      this.close();
      this.onRefused(status);
    } else {
      this.open();
    }
  }

  #take(message) {
    if (this.ended) return;
    const id = message.lastEventId;
    if (id) {
      // The same frame twice is one event. The same id with other content is not: a service that
      // took the launch over counts on from what it knows, which may be less than was shown.
      const mark = id + "\n" + hash(message.data);
      if (this.seen.has(mark)) return;
      this.seen.add(mark);
      this.lastId = id;
    }
    let event;
    try {
      event = JSON.parse(message.data);
    } catch {
      return;
    }
    if (event && typeof event === "object") this.onEvent(event);
  }
}

/**
 * FNV-1a, 32 bits: enough to tell frames with one id apart.
 *
 * @param {string} text
 */
function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

function defaultPlatform() {
  return {
    EventSource: globalThis.EventSource,
    fetch: (...args) => globalThis.fetch(...args),
    setTimeout: (...args) => globalThis.setTimeout(...args),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    random: Math.random,
  };
}
