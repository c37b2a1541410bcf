/**
 * The text of the log, within bounds, and made harmless. No DOM.
 */

/** Characters that are kept, for "copy log"; the oldest lines go first. */
const KEEP = 10_000_000;

/** Characters of one line that are shown. */
export const SHOW = 2_000;

// A hyperlink as a whole; or any one escape sequence. Each alternative stops at the next ESC,
// so that the time is linear in the line's length.
// Source: ECMA-48, and for hyperlinks https://gist.github.com/egmontkob/eb114294efbcd5adb1944c9f3cb5feda
const ESCAPES = new RegExp(
  [
    "\\x1b\\]8;[^;\\x07\\x1b]*;https?://[!-~]{1,500}(?:\\x07|\\x1b\\\\)[ -~]+\\x1b\\]8;;(?:\\x07|\\x1b\\\\)",
    "\\x1b\\][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)?", // operating system commands: titles, clipboard
    "\\x1b[PX^_][^\\x1b]*(?:\\x1b\\\\)?", // device control and other strings
    "\\x1b\\[[0-?]*[ -/]*[@-~]?", // control sequences: colours, and cursor movements
    "\\x1b[ -/]*[0-~]?",
  ].join("|"),
  "gi",
);
const COLOUR = /^\x1b\[[\d;]*m$/;
const LINK = /^\x1b\]8;[^;]*;https?:.*\x1b\]8;;(?:\x07|\x1b\\)$/i;
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]/g;

/**
 * What of a line may be shown: its text, colours and links to the web.
 *
 * @param {string} line without its end
 */
export function showable(line) {
  let shown = line;
  let note = "";
  if (line.length > SHOW) {
    shown = line.slice(0, SHOW);
    note = ` … (${(line.length - SHOW).toLocaleString("en")} more characters)`;
  }
  shown = shown.replace(ESCAPES, (sequence) => (COLOUR.test(sequence) || LINK.test(sequence) ? sequence : ""));
  return shown.replace(CONTROLS, "") + (note && "\x1b[0m" + note);
}

/**
 * A line without any escape sequence.
 *
 * @param {string} line
 */
export function plain(line) {
  return line
    .replace(/\x1b\]8;[^;\x07\x1b]*;[^\x07\x1b]*(?:\x07|\x1b\\)/g, "")
    .replace(ESCAPES, "")
    .replace(CONTROLS, "");
}

export class LogLines {
  /** @param {number} keep characters */
  constructor(keep = KEEP) {
    this.keep = keep;
    /** @type {string[]} */
    this.kept = [];
    /** The number of `kept[0]`: how many lines were dropped. */
    this.first = 0;
    this.characters = 0;
    this.overwrite = false;
  }

  /** The number that the next line will have. */
  get next() {
    return this.first + this.kept.length;
  }

  /**
   * Add a message: one line or several.
   *
   * @param {string} message
   * @returns {number} the number of the first line that is new or changed
   */
  add(message) {
    const changed = this.overwrite ? this.next - 1 : this.next;
    const lines = message.split("\n");
    if (lines.at(-1) === "") lines.pop(); // the message ended its line
    for (const line of lines) this.#addLine(line);
    this.#drop();
    return Math.max(changed, this.first);
  }

  #addLine(line) {
    // a carriage return begins the line again: what a progress bar shows last is what counts
    const again = line.endsWith("\r");
    const states = line.split("\r").filter((state) => state !== "");
    const text = states.at(-1) ?? "";
    if (this.overwrite && this.kept.length > 0) this.characters -= this.kept.pop().length;
    this.kept.push(text);
    this.characters += text.length;
    this.overwrite = again && text !== "";
  }

  #drop() {
    if (this.characters <= this.keep) return;
    // a tenth at once, so that it is not done for each line
    let count = 0;
    while (this.characters > this.keep * 0.9 && count < this.kept.length - 1) {
      this.characters -= this.kept[count].length;
      count += 1;
    }
    this.kept.splice(0, count);
    this.first += count;
  }

  /** @param {number} number the lines from this one on */
  from(number) {
    return this.kept.slice(Math.max(0, number - this.first));
  }

  /** The whole log as plain text. */
  text() {
    const note = this.first > 0 ? `[${this.first} earlier lines were dropped]\n` : "";
    return note + this.kept.map((line) => plain(line) + "\n").join("");
  }
}
