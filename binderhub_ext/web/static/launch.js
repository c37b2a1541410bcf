/**
 * The launch page: follows one launch by its event stream, and opens the server when it is ready.
 */

import "./launch.css";
import { destination } from "./page/destination.js";
import { LogView } from "./page/log.js";
import { LaunchProgress } from "./page/progress.js";
import { LaunchSession } from "./page/session.js";
import { LaunchEvents } from "./page/stream.js";
import { LaunchView } from "./page/view.js";
import { WORDS } from "./page/words.js";

/**
 * @typedef {object} LaunchConfig what the service wrote into the page
 * @prop {string} buildUrl path of the event stream
 * @prop {string | null} buildToken
 * @prop {string} ticket for a new launch
 * @prop {string} providerName
 * @prop {string} spec
 * @prop {string | null} repoUrl
 * @prop {string} homeUrl
 * @prop {string | null} [xsrf] where the Hub authenticates people
 * @prop {number} [stallSeconds]
 */

/** @type {LaunchConfig} */
const config = JSON.parse(document.getElementById("launch-config").textContent);
const session = new LaunchSession({
  storage: tabStorage(),
  key: location.pathname + location.search,
  freshTicket: config.ticket,
  now: Date.now(),
});
const progress = new LaunchProgress(session.since);
const view = new LaunchView(document, document.querySelector(".bhx-repo").textContent.trim());
const log = new LogView(document);
const events = new LaunchEvents({
  url: streamUrl,
  onEvent: take,
  onConnection: (state) => view.showConnection(state === "lost" && !progress.ended, progress.stage),
  onRefused: (status) => fail(status === 204 ? WORDS.gone : WORDS.refused(status)),
  stallMs: 1000 * (config.stallSeconds ?? 90),
});

function streamUrl() {
  const url = new URL(config.buildUrl, location.href);
  if (config.buildToken) url.searchParams.set("build_token", config.buildToken);
  if (config.xsrf) url.searchParams.set("_xsrf", config.xsrf);
  url.searchParams.set("launch", session.ticket);
  // whichever process answers, it may not be the one that began the launch
  if (session.resumed) url.searchParams.set("resumed", "true");
  url.searchParams.set("keepalive", "event");
  return url;
}

/** @param {object} event */
function take(event) {
  if (progress.ended) return;
  if (typeof event.ticket === "string") session.renew(event.ticket);
  const now = Date.now();
  progress.apply(event, now);
  if (isForgotten(progress.error)) return startAnew();
  if (typeof event.message === "string") log.add(event.message);
  if (progress.stage === "building") log.open();
  view.show(progress, now);
  if (progress.ready) openServer(progress.ready, now);
  if (progress.error) fail(progress.error);
}

/** @param {{url: string, token: string}} ready */
function openServer({ url, token }, now) {
  events.close();
  const target = destination(url, token, location.search, location.href);
  if (target === null) return fail(WORDS.badAddress);
  session.delivered(now);
  view.showReady(target);
  location.replace(target);
}

/** @param {import("./page/progress.js").LaunchError} error */
function fail(error) {
  events.close();
  progress.error ??= error;
  session.forget();
  log.open();
  view.showError(error);
}

/** Whether a launch from before a reload is one that the service does not take up any more. */
function isForgotten(error) {
  return session.resumed && (error?.code === "ticket.invalid" || error?.code === "ticket.expired");
}

/** The page that comes has a ticket of its own, and nothing to resume: this happens once. */
function startAnew() {
  events.close();
  session.forget();
  location.reload();
}

function tabStorage() {
  try {
    return window.sessionStorage;
  } catch {
    return null; // forbidden by the browser's settings
  }
}

async function copyLog(button) {
  const { code, title, detail, hint, reference } = progress.error ?? {};
  const error = [title, hint, detail, WORDS.reference(code, reference)].filter(Boolean).join("\n");
  const text = [location.href, error, log.lines.text()].filter(Boolean).join("\n\n");
  const label = button.textContent;
  button.textContent = (await copy(text)) ? WORDS.copied : WORDS.notCopied;
  setTimeout(() => (button.textContent = label), 2000);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // not a secure context, or forbidden: the old way
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

document.getElementById("bhx-retry").addEventListener("click", startAnew);
document.getElementById("bhx-copy").addEventListener("click", (event) => copyLog(event.currentTarget));
window.addEventListener("online", () => !progress.ended && events.reconnectNow());
// a page that the browser kept alive behind another one has lost its connection, and may be old
window.addEventListener("pageshow", (event) => event.persisted && location.reload());
setInterval(() => !progress.ended && view.tick(progress, Date.now()), 500);

view.show(progress, Date.now());
events.open();
