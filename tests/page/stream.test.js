/** Whatever happens to the connection, each event is taken once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff } from "../../binderhub_ext/web/static/page/backoff.js";
import { LaunchEvents } from "../../binderhub_ext/web/static/page/stream.js";

/** A browser in which time is told, and connections do what the test says. */
function world({ status = 200, stallMs = 90_000 } = {}) {
  const all = { sources: [], timers: new Map(), events: [], states: [], refused: [], fetched: 0, status };
  class FakeEventSource {
    constructor(url) {
      Object.assign(this, { url: new URL(url), readyState: 0, closed: false, listeners: {} });
      all.sources.push(this);
    }
    close() {
      this.closed = true;
    }
    addEventListener(name, listener) {
      this.listeners[name] = listener;
    }
    message(id, event) {
      this.onmessage({ lastEventId: id, data: typeof event === "string" ? event : JSON.stringify(event) });
    }
    fail(readyState) {
      this.readyState = readyState;
      this.onerror();
    }
  }
  let count = 0;
  const platform = {
    EventSource: FakeEventSource,
    fetch: async () => ((all.fetched += 1), { status: all.status }),
    setTimeout: (action, ms) => (all.timers.set(++count, { action, ms }), count),
    clearTimeout: (id) => all.timers.delete(id),
    random: () => 0.5,
  };
  all.stream = new LaunchEvents({
    url: () => new URL("https://b/build/gh/u/r/HEAD?launch=t"),
    onEvent: (event) => all.events.push(event.message),
    onConnection: (state) => all.states.push(state),
    onRefused: (code) => all.refused.push(code),
    stallMs,
    platform,
  });
  /** Let the one timer that runs go off; returns how long it was. */
  all.pass = async () => {
    assert.equal(all.timers.size, 1, "one timer at a time");
    const [[id, { action, ms }]] = all.timers;
    all.timers.delete(id);
    action();
    await new Promise((resolve) => setImmediate(resolve));
    return ms;
  };
  all.last = () => all.sources.at(-1);
  all.stream.open();
  return all;
}

test("an event that was seen already is left out", () => {
  const { stream, last, events } = world();
  last().message("1", { message: "a" });
  last().message("2", { message: "b" });
  last().message("1", { message: "a" });
  last().message("2", { message: "b" });
  last().message("3", { message: "c" });
  assert.deepEqual(events, ["a", "b", "c"]);
  assert.equal(stream.lastId, "3");
});

test("events without ids are all taken: other servers have none", () => {
  const { last, events } = world();
  last().message("", { message: "a" });
  last().message("", { message: "a" });
  assert.deepEqual(events, ["a", "a"]);
});

test("an id that comes again with something new to say is not swallowed", () => {
  const { last, events } = world();
  last().message("7", { message: "log" });
  last().message("7", { phase: "ready", message: "ready" });
  assert.deepEqual(events, ["log", "ready"]);
});

test("what is no JSON object is passed over", () => {
  const { last, events } = world();
  for (const data of ["{", "null", "7", '"x"']) last().message("", data);
  assert.deepEqual(events, []);
});

test("while the browser reconnects by itself, nothing else does", async () => {
  const { last, sources, states, timers } = world();
  last().fail(0);
  assert.deepEqual(states, ["lost"]);
  assert.equal(sources.length, 1);
  assert.deepEqual([...timers.values()].map(({ ms }) => ms), [90_000], "only the watch over dead connections");
  last().onopen();
  assert.deepEqual(states, ["lost", "open"]);
});

test("when the browser has given up, a new source starts after the last event", async () => {
  const all = world();
  all.last().message("p.5", { message: "a" });
  all.last().fail(2);
  assert.equal(await all.pass(), 1000);
  assert.equal(all.sources.length, 2);
  assert.ok(all.sources[0].closed);
  assert.equal(all.last().url.searchParams.get("last_event_id"), "p.5");
  assert.equal(all.last().url.searchParams.get("launch"), "t");
});

test("it waits longer each time, and starts over once it is connected", async () => {
  const all = world();
  const waits = [];
  for (let i = 0; i < 3; i++) {
    all.last().fail(2);
    waits.push(await all.pass());
  }
  assert.deepEqual(waits, [1000, 1500, 2500]);
  all.last().onopen();
  all.last().fail(2);
  assert.equal(await all.pass(), 1000);
});

test("a stream that is gone for good is told, after the reason was asked for", async () => {
  for (const status of [204, 403, 404]) {
    const all = world({ status });
    for (let i = 0; i < 3; i++) {
      all.last().fail(2);
      await all.pass();
    }
    assert.deepEqual(all.refused, [status]);
    assert.equal(all.sources.length, 3);
    assert.equal(all.timers.size, 0, "and nothing more is tried");
  }
});

test("a service that is only away for a while is asked again, without end", async () => {
  for (const status of [200, 429, 502, 503]) {
    const all = world({ status });
    for (let i = 0; i < 20; i++) {
      all.last().fail(2);
      await all.pass();
    }
    assert.deepEqual(all.refused, []);
    assert.equal(all.sources.length, 21);
  }
});

test("a connection that says nothing is replaced", async () => {
  const all = world({ stallMs: 5000 });
  all.last().onopen();
  all.last().message("3", { message: "a" });
  assert.equal(await all.pass(), 5000);
  assert.ok(all.sources[0].closed);
  assert.equal(all.last().url.searchParams.get("last_event_id"), "3");
});

test("after the end nothing is taken and nothing runs", async () => {
  const all = world();
  const source = all.last();
  all.stream.close();
  source.message("1", { message: "late" });
  source.fail(2);
  all.stream.reconnectNow();
  assert.deepEqual([all.events, all.states, all.timers.size, all.sources.length], [[], [], 0, 1]);
});

test("the wait is between half a second and its cap", () => {
  assert.equal(backoff(0, () => 0), 500);
  assert.equal(backoff(30, () => 1), 15_500);
});

test("a keep-alive event is a sign of life, and nothing to show", async () => {
  const { last, timers, pass, sources, events } = world();
  last().onopen();
  const [before] = timers.keys();
  last().listeners.keepalive({ data: "{}", lastEventId: "" });
  const [after] = timers.keys();
  assert.notEqual(before, after, "the wait began anew");
  assert.equal(timers.size, 1);
  await pass();
  assert.equal(sources.length, 2, "silence without keep-alives ends in a new connection");
  sources[0].listeners.keepalive({ data: "{}", lastEventId: "" });
  assert.equal(timers.size, 1);
  assert.deepEqual(events, []);
});
