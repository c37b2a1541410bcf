/** The log shows text, colours and links, and nothing in it acts on the page. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { AnsiUp } from "ansi_up";
import { LogLines, SHOW, plain, showable } from "../../binderhub_ext/web/static/page/lines.js";

const ESC = "\x1b";
const html = (line) => {
  const colours = new AnsiUp();
  colours.use_classes = true;
  return colours.ansi_to_html(showable(line));
};

test("colours are shown", () => {
  assert.equal(html(`${ESC}[31mred${ESC}[0m plain`), '<span class="ansi-red-fg">red</span> plain');
});

test("markup is text", () => {
  assert.equal(html("<img src=x onerror=alert(1)> & \"q\""), "&lt;img src=x onerror=alert(1)&gt; &amp; &quot;q&quot;");
});

test("links lead to the web only, and cannot carry markup", () => {
  const link = (url, text = "here") => `${ESC}]8;;${url}${ESC}\\${text}${ESC}]8;;${ESC}\\`;
  assert.equal(html(link("https://example.org/a")), '<a href="https://example.org/a">here</a>');
  for (const url of ["javascript:alert(1)", "data:text/html,x", "file:///etc", "//evil", "JAVASCRIPT:x"]) {
    assert.equal(html(link(url)), "here", url);
  }
  assert.equal(html(link('https://x/"onclick="a()')), '<a href="https://x/&quot;onclick=&quot;a()">here</a>');
  assert.ok(!html(link("https://x/", "<img src=x>")).includes("<img"));
});

const HARMLESS = {
  "a title": `${ESC}]0;evil\x07text`,
  "the clipboard": `${ESC}]52;c;ZXZpbA==${ESC}\\text`,
  "a device control string": `${ESC}P+q544e${ESC}\\text`,
  "a cursor movement": `${ESC}[2J${ESC}[1;1Htext`,
  "a private mode": `${ESC}[?1049h${ESC}[?25ltext`,
  "a reset": `${ESC}ctext`,
  "a character set": `${ESC}(0text`,
  "an 8-bit control sequence": "\x9b31m\x90\x9dtext".replace("31m", ""),
  "a bell, a backspace and a NUL": "\x07\x08\x00text",
  "an ESC at the end": `text${ESC}`,
};
for (const [name, line] of Object.entries(HARMLESS)) {
  test(`${name} leaves only the text`, () => {
    assert.equal(html(line), "text");
    assert.equal(plain(line), "text");
  });
}

test("a sequence without an end takes its own line with it, not the next", () => {
  const colours = new AnsiUp();
  for (const line of [`${ESC}]8;;https://x`, `${ESC}]0;title`, `${ESC}[38;2`, `${ESC}P`, `${ESC}`]) {
    colours.ansi_to_html(showable(line));
    assert.equal(colours.ansi_to_html(showable("next")), "next", JSON.stringify(line));
  }
});

test("a line of a megabyte is cut where it is shown, and says so", () => {
  const shown = showable("x".repeat(1_000_000));
  assert.ok(shown.length < SHOW + 100);
  assert.match(shown, /998,000 more characters/);
});

test("hostile lines take no more than linear time", () => {
  const seeds = [ESC, `${ESC}]`, `${ESC}[`, `${ESC}[1;`, `${ESC}P`, `${ESC}]8;;https://x/`, `${ESC}]8;;https://x/${ESC}\\a`, "\r"];
  const began = performance.now();
  for (const seed of seeds) {
    const line = seed.repeat(1_000_000 / seed.length);
    showable(line);
    plain(line);
  }
  assert.ok(performance.now() - began < 5000);
});

const added = (...messages) => {
  const lines = new LogLines();
  messages.forEach((message) => lines.add(message));
  return lines.kept;
};

test("messages become lines, whether or not they end", () => {
  assert.deepEqual(added("a\n", "b", "c\nd\n", "\n", "e\r\n"), ["a", "b", "c", "d", "", "e"]);
});

test("of a progress bar the last state is shown", () => {
  assert.deepEqual(added("10%\r20%\r30%\n"), ["30%"]);
  assert.deepEqual(added("10%\r", "20%\r", "done\n", "next\n"), ["done", "next"]);
  const lines = new LogLines();
  lines.add("first\n10%\r");
  assert.equal(lines.add("20%\r"), 1, "the line that changed is told");
});

test("the log is bounded: the oldest lines go, and the copy says so", () => {
  const lines = new LogLines(1000);
  for (let i = 0; i < 500; i++) lines.add(`line number ${i}\n`);
  assert.ok(lines.characters <= 1000);
  assert.equal(lines.next, 500);
  assert.equal(lines.kept.at(-1), "line number 499");
  assert.match(lines.text(), new RegExp(`^\\[${lines.first} earlier lines were dropped\\]\nline number ${lines.first}\n`));
});
