/**
 * Which launch this tab watches, kept over a reload.
 *
 * A reload of the page goes on with the launch that it showed. When that launch has ended,
 * a reload is a new one.
 */

const PREFIX = "binderhub_ext.launch:";

/** For so long after the end a reload still opens the same server: opening it can take a while. */
const OPENING_MS = 30_000;

export class LaunchSession {
  /**
   * @param {object} options
   * @param {Storage | null} options.storage `sessionStorage`; null where the browser forbids it
   * @param {string} options.key path and query of the launch link
   * @param {string} options.freshTicket what the page came with
   * @param {number} options.now milliseconds since 1970
   */
  constructor({ storage, key, freshTicket, now }) {
    this.storage = storage;
    this.key = PREFIX + key;
    const kept = this.#read();
    const ended = kept?.readyAt !== undefined && now - kept.readyAt > OPENING_MS;
    /** Whether this page goes on with a launch that an earlier one began. */
    this.resumed = kept !== null && !ended;
    this.ticket = this.resumed ? kept.ticket : freshTicket;
    /** When the launch began, as far as this tab knows; milliseconds since 1970. */
    this.since = this.resumed ? kept.since : now;
    this.#write({ ticket: this.ticket, since: this.since });
  }

  /** @param {string} ticket a newer one for the same launch */
  renew(ticket) {
    if (ticket === this.ticket) return;
    this.ticket = ticket;
    this.#write({ ticket, since: this.since });
  }

  /** @param {number} now the server is ready, and being opened */
  delivered(now) {
    this.#write({ ticket: this.ticket, since: this.since, readyAt: now });
  }

  /** The launch is over: the next page starts its own. */
  forget() {
    try {
      this.storage?.removeItem(this.key);
    } catch {
      // nothing was kept
    }
  }

  #read() {
    try {
      const kept = JSON.parse(this.storage?.getItem(this.key) ?? "null");
      return typeof kept?.ticket === "string" && typeof kept?.since === "number" ? kept : null;
    } catch {
      return null;
    }
  }

  #write(value) {
    try {
      this.storage?.setItem(this.key, JSON.stringify(value));
    } catch {
      // storage is full or forbidden: a reload will be a new launch
    }
  }
}
