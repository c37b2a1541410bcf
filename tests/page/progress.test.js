/** What a person is told about how far a launch is. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { LaunchProgress } from "../../binderhub_ext/web/static/page/progress.js";

const T0 = 1_000_000;
const after = (events, began = T0) => {
  const progress = new LaunchProgress(began);
  events.forEach((event) => progress.apply(event, T0 + 1000 * (event.elapsed ?? event.at ?? 0)));
  return progress;
};
const steps = (progress) => progress.steps.map(({ stage, status }) => `${stage} ${status}`);
const seconds = (progress, stage, elapsed) =>
  LaunchProgress.secondsIn(progress.steps.find((step) => step.stage === stage), elapsed);
const own = (stage, elapsed, more = {}) => ({ phase: "waiting", stage, elapsed, ...more });

test("a launch that builds takes every step, each with its time", () => {
  const progress = after([
    own("resolving", 0),
    own("checking", 0.5),
    own("building", 2),
    { phase: "building", message: "a log line has no stage\n", at: 3 },
    own("launching", 42),
    own("ready", 45, { phase: "ready", url: "https://h/", token: "t" }),
  ]);
  assert.deepEqual(steps(progress), ["resolving done", "checking done", "building done", "launching done"]);
  assert.deepEqual(["resolving", "checking", "building", "launching"].map((s) => seconds(progress, s, 99)), [0.5, 1.5, 40, 3]);
  assert.deepEqual(progress.ready, { url: "https://h/", token: "t" });
});

test("an image that is there already is not built", () => {
  const progress = after([own("resolving", 0), own("checking", 1), own("launching", 2)]);
  assert.deepEqual(steps(progress), ["resolving done", "checking done", "building skipped", "launching active"]);
});

test("waiting in line is a step where it happens, with place and reason", () => {
  const progress = after([own("checking", 1), own("queued", 2, { queue: { position: 4, reason: "full" } })]);
  assert.deepEqual(steps(progress), ["resolving skipped", "checking done", "queued active", "building todo", "launching todo"]);
  assert.deepEqual(progress.queue, { position: 4, reason: "full" });
  progress.apply(own("building", 9), T0 + 9000);
  assert.equal(progress.queue, null);
  assert.equal(seconds(progress, "queued", 99), 7);
});

test("going back in line adds up the times of each step", () => {
  const progress = after([own("launching", 10), own("queued", 12), own("launching", 20), own("queued", 21), own("launching", 30)]);
  assert.deepEqual(steps(progress).slice(-2), ["launching active", "queued todo"]);
  assert.equal(seconds(progress, "launching", 35), 2 + 1 + 5);
  assert.equal(seconds(progress, "queued", 35), 8 + 9);
});

test("the step in which it failed is marked", () => {
  const error = { code: "build.failed", title: "T", detail: "D", hint: "H", retryable: false, reference: "R" };
  const progress = after([own("building", 1), { phase: "failed", stage: "failed", elapsed: 5, error }]);
  assert.deepEqual(steps(progress).slice(-2), ["building failed", "launching todo"]);
  assert.deepEqual(progress.error, error);
});

test("nothing that comes after the end counts", () => {
  const progress = after([{ phase: "failed", message: "no\n" }, { phase: "ready", url: "https://h/" }]);
  assert.equal(progress.ready, null);
  assert.equal(progress.error.title, "no");
});

test("a server without stages is understood by its phases", () => {
  const phases = ["waiting", "fetching", "building", "unknown", "pushing", "built", "launching"];
  const progress = after(phases.map((phase, at) => ({ phase, at })));
  assert.equal(progress.stage, "launching");
  assert.equal(seconds(progress, "building", 99), 4);
  progress.apply({ phase: "failed" }, T0 + 8000);
  assert.equal(progress.error.title, "The launch failed");
  assert.equal(progress.error.retryable, true);
});

test("progress that is no number from 0 to 100 does no harm", () => {
  const progress = after([own("launching", 1, { progress: 250 })]);
  assert.equal(progress.percent, 100);
  progress.apply({ phase: "pushing", progress: { layer: { current: 1 } } }, T0);
  progress.apply({ phase: "pushing", progress: 7 }, T0);
  assert.equal(progress.percent, 100);
  progress.apply(own("ready", 2, { phase: "ready", progress: Number.NaN }), T0);
  assert.equal(progress.percent, null);
});

test("after a reload the clock shows the launch's time, not the page's", () => {
  const progress = new LaunchProgress(T0 + 60_000);
  progress.apply(own("resolving", 0), T0 + 60_000); // told again a minute later
  progress.apply(own("building", 50), T0 + 60_100);
  assert.equal(progress.elapsed(T0 + 60_000), 49.9);
});

test("the bound of a stage is told from the event that has it, and ends with the stage", () => {
  const progress = after([own("building", 10, { remaining: 600 })]);
  assert.equal(progress.bound, 610);
  progress.apply(own("launching", 20), T0);
  assert.equal(progress.bound, null);
});
