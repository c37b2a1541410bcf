/**
 * Draws the state of a launch into the elements of the page's template.
 */

import { showIcon } from "./icon.js";
import { LaunchProgress } from "./progress.js";
import { WORDS, clock, duration } from "./words.js";

export class LaunchView {
  /**
   * @param {Document} document
   * @param {string} what the repository, for the tab's title
   */
  constructor(document, what) {
    this.document = document;
    this.what = what;
    this.rows = new Map();
    this.get = (id) => document.getElementById("bhx-" + id);
    this.get("noscript").hidden = true;
    this.get("progress").hidden = false;
    this.said = "";
    this.lost = false;
  }

  /** @param {LaunchProgress} progress @param {number} now milliseconds */
  show(progress, now) {
    const { stage } = progress;
    this.get("launch").dataset.state = stage;
    setText(this.get("headline"), WORDS.headlines[stage] ?? stage);
    this.#showSteps(progress, now);
    this.#showBar(progress);
    this.#showQueue(progress);
    this.#showTab(stage);
    this.#say(WORDS.headlines[stage] ?? stage, progress.queue);
    if (progress.error) this.showError(progress.error);
  }

  /** What changes by itself. @param {LaunchProgress} progress @param {number} now milliseconds */
  tick(progress, now) {
    const elapsed = progress.elapsed(now);
    setText(this.get("elapsed"), clock(elapsed));
    for (const step of progress.steps) {
      const row = this.rows.get(step.stage);
      const spent = LaunchProgress.secondsIn(step, elapsed);
      setText(row.time, timeText(step, spent));
      const left = step.status === "active" && progress.bound !== null ? progress.bound - elapsed : 0;
      setText(row.bound, left >= 1 ? WORDS.atMost(clock(Math.ceil(left))) : "");
    }
  }

  /** @param {boolean} lost */
  showConnection(lost, stage) {
    if (lost === this.lost) return;
    this.lost = lost;
    this.get("lost").hidden = !lost;
    setText(this.get("status"), lost ? WORDS.lost : WORDS.found);
    this.#showTab(stage);
  }

  /** @param {import("./progress.js").LaunchError} error */
  showError(error) {
    const section = this.get("error");
    setText(this.get("error-title"), error.title);
    for (const part of ["hint", "detail"]) {
      setText(this.get("error-" + part), error[part] ?? "");
      this.get("error-" + part).hidden = !error[part];
    }
    setText(this.get("error-reference"), WORDS.reference(error.code, error.reference));
    this.get("retry").classList.toggle("bhx-primary", error.retryable !== false);
    this.get("launch").dataset.state = "failed";
    setText(this.get("headline"), WORDS.headlines.failed);
    this.get("lost").hidden = this.get("queue").hidden = this.get("bar").hidden = true;
    this.lost = false;
    this.#showTab("failed");
    section.hidden = false;
    section.focus();
  }

  /** @param {string} url that is being opened */
  showReady(url) {
    this.get("open").href = url;
    this.get("ready").hidden = false;
    this.get("lost").hidden = true;
  }

  #showSteps(progress, now) {
    const list = this.get("stages");
    progress.steps.forEach((step, index) => {
      const row = this.rows.get(step.stage) ?? this.#makeRow(step.stage);
      if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
      row.item.dataset.status = step.status;
      if (step.status === "active") row.item.setAttribute("aria-current", "step");
      else row.item.removeAttribute("aria-current");
      setText(row.status, step.status === "skipped" ? "" : `(${WORDS.statuses[step.status]})`);
    });
    this.tick(progress, now);
  }

  #makeRow(stage) {
    const make = (tag, name) => {
      const element = this.document.createElement(tag);
      element.className = "bhx-" + name;
      return element;
    };
    const row = {
      item: make("li", "stage"),
      name: make("span", "stage-name"),
      status: make("span", "unseen"),
      bound: make("span", "stage-bound"),
      time: make("span", "time"),
    };
    row.item.dataset.stage = stage;
    row.name.textContent = WORDS.steps[stage] ?? stage;
    row.item.append(row.name, " ", row.status, " ", row.bound, " ", row.time);
    this.rows.set(stage, row);
    return row;
  }

  #showBar(progress) {
    const bar = this.get("bar");
    if (progress.ready) bar.value = bar.max = 100;
    else if (progress.percent === null) bar.removeAttribute("value");
    else Object.assign(bar, { max: 100, value: progress.percent });
  }

  #showQueue({ queue }) {
    const element = this.get("queue");
    element.hidden = !queue;
    if (queue) setText(element, queueText(queue));
  }

  #showTab(stage) {
    const state = this.lost && stage !== "failed" && stage !== "ready" ? "lost" : stage;
    this.document.title = `${WORDS.titles[state] ?? stage} · ${this.what}`;
    showIcon(this.document, ["lost", "ready", "failed"].includes(state) ? state : "busy");
  }

  /** For screen readers: a change of the stage or of the place in line, not each event. */
  #say(headline, queue) {
    const words = queue ? `${headline}. ${queueText(queue)}` : headline;
    if (words === this.said) return;
    this.said = words;
    setText(this.get("status"), words);
  }
}

/** @param {{position?: number, reason?: string}} queue */
function queueText({ position, reason }) {
  const place = Number.isInteger(position) && position > 0 ? WORDS.place(position) : "";
  return [place, typeof reason === "string" ? reason : ""].filter(Boolean).join(": ");
}

/** @param {import("./progress.js").Step} step @param {number} spent seconds */
function timeText({ stage, status }, spent) {
  if (status === "skipped") return stage === "building" ? WORDS.skipped : "";
  if (status === "active") return clock(spent);
  return spent > 0 ? duration(spent) : "";
}

/** Touch the document only when something changes. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
