/**
 * Shows the log: the end of it, drawn once per frame, following unless the reader scrolled up.
 */

import { AnsiUp } from "ansi_up";
import { LogLines, showable } from "./lines.js";
import { WORDS } from "./words.js";

/** Lines in the document. More make scrolling slow, and nobody reads them here. */
const MAX_LINES = 3_000;

/** The end is reached when it is nearer than this; pixels. */
const NEAR = 24;

export class LogView {
  /** @param {Document} document that holds the elements of the page's template */
  constructor(document) {
    const get = (id) => document.getElementById(id);
    this.document = document;
    this.box = get("bhx-log-box");
    this.element = get("bhx-log");
    this.count = get("bhx-log-count");
    this.followButton = get("bhx-follow");
    this.lines = new LogLines();
    this.colours = new AnsiUp();
    this.colours.use_classes = true;
    /** The number of the first line in the document, and of the first to draw. */
    this.shownFrom = 0;
    this.drawFrom = 0;
    this.scheduled = false;
    this.following = true;
    this.touched = false;
    this.note = document.createElement("p");
    this.note.className = "bhx-log-note";
    this.note.hidden = true;
    this.element.append(this.note);
    this.#listen();
  }

  /** @param {string} message of an event */
  add(message) {
    if (message === "") return;
    this.drawFrom = Math.min(this.drawFrom, this.lines.add(message));
    this.#schedule();
  }

  /** Open it, unless the reader has decided otherwise. */
  open() {
    if (!this.touched) this.box.open = true;
    this.#schedule();
  }

  #listen() {
    this.element.addEventListener("scroll", () => this.#noteFollowing(), { passive: true });
    this.box.querySelector("summary").addEventListener("click", () => (this.touched = true));
    this.box.addEventListener("toggle", () => this.#schedule());
    this.followButton.addEventListener("click", () => {
      this.following = true;
      this.element.scrollTop = this.element.scrollHeight;
      this.element.focus();
    });
  }

  #noteFollowing() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    this.following = scrollTop + clientHeight >= scrollHeight - NEAR;
    this.followButton.hidden = this.following;
  }

  #schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    // frames are not drawn in a tab behind others, but its log must not pile up
    if (this.document.hidden) setTimeout(() => this.#draw(), 500);
    else requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.scheduled = false;
    if (this.lines.next === 0) return;
    this.box.hidden = false;
    this.count.textContent = WORDS.lines(this.lines.next);
    if (!this.box.open) return;
    const from = Math.max(this.drawFrom, this.lines.next - MAX_LINES, this.lines.first);
    const rows = this.element.children; // rows[0] is the note
    while (rows.length > 1 && this.shownFrom + rows.length - 1 > from) rows[rows.length - 1].remove();
    if (this.shownFrom + rows.length - 1 < from) this.#clear(from);
    this.#append(this.lines.from(from));
    this.drawFrom = this.lines.next;
    this.#trim();
    if (this.following) this.element.scrollTop = this.element.scrollHeight;
  }

  #clear(from) {
    this.element.replaceChildren(this.note);
    this.shownFrom = from;
  }

  #append(lines) {
    const fragment = this.document.createDocumentFragment();
    for (const line of lines) {
      const row = this.document.createElement("div");
      row.dir = "auto";
      // ansi_up escapes what is no colour; `showable` has left nothing else for it to act on
      row.innerHTML = this.colours.ansi_to_html(showable(line)) || "\u00a0";
      for (const link of row.querySelectorAll("a")) {
        link.target = "_blank";
        link.rel = "noopener noreferrer nofollow";
      }
      fragment.append(row);
    }
    this.element.append(fragment);
  }

  #trim() {
    // someone who reads further up keeps what they read, within reason
    const limit = this.following ? MAX_LINES : 2 * MAX_LINES;
    const surplus = this.element.children.length - 1 - limit;
    for (let i = 0; i < surplus; i++) this.element.children[1].remove();
    this.shownFrom += Math.max(0, surplus);
    this.note.hidden = this.shownFrom === 0;
    this.note.textContent = WORDS.earlierLines(this.shownFrom);
  }
}
