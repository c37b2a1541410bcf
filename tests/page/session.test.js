/** A reload goes on with the same launch, until it has ended. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { LaunchSession } from "../../binderhub_ext/web/static/page/session.js";

function fakeStorage() {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
    items,
  };
}
const open = (storage, freshTicket, { key = "/v2/gh/u/r/HEAD", now = 0 } = {}) =>
  new LaunchSession({ storage, key, freshTicket, now });

test("the first page has its own ticket, and a reload keeps it", () => {
  const storage = fakeStorage();
  assert.deepEqual({ ...pick(open(storage, "a", { now: 5 })) }, { ticket: "a", resumed: false, since: 5 });
  assert.deepEqual({ ...pick(open(storage, "b", { now: 9 })) }, { ticket: "a", resumed: true, since: 5 });
});

test("another link in the same tab is another launch", () => {
  const storage = fakeStorage();
  open(storage, "a");
  assert.equal(open(storage, "b", { key: "/v2/gh/u/r/HEAD?labpath=x" }).ticket, "b");
});

test("the newest ticket is the one that is kept", () => {
  const storage = fakeStorage();
  open(storage, "a").renew("a2");
  assert.equal(open(storage, "b").ticket, "a2");
});

test("after the end the next page is a new launch", () => {
  const storage = fakeStorage();
  open(storage, "a").forget();
  assert.equal(open(storage, "b").resumed, false);
});

test("a server that is being opened is opened again by a reload, but not for ever", () => {
  const storage = fakeStorage();
  open(storage, "a").delivered(1000);
  assert.equal(open(storage, "b", { now: 6000 }).ticket, "a");
  open(storage, "a").delivered(1000);
  assert.equal(open(storage, "c", { now: 60_000 }).ticket, "c");
});

test("storage that is forbidden, full or damaged means a new launch each time", () => {
  const forbidden = () => {
    throw new Error("SecurityError");
  };
  for (const storage of [null, { getItem: forbidden, setItem: forbidden, removeItem: forbidden }]) {
    const session = open(storage, "a");
    assert.equal(session.ticket, "a");
    session.delivered(1);
    session.forget();
  }
  for (const damaged of ["{", "7", '{"ticket": 3}', "[]"]) {
    const storage = fakeStorage();
    storage.getItem = () => damaged;
    assert.equal(open(storage, "a").resumed, false);
  }
});

const pick = ({ ticket, resumed, since }) => ({ ticket, resumed, since });
