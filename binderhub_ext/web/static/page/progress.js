/**
 * What has happened in a launch so far: a state machine that is fed with events. No DOM, no clock.
 */

/** The steps that every launch may take, in order. "queued" joins them where it happens. */
export const STEPS = ["resolving", "checking", "building", "launching"];

/** What servers without `stage` mean by their phases. @type {Record<string, string>} */
const STAGE_OF_PHASE = {
  waiting: "queued",
  fetching: "building",
  building: "building",
  pushing: "building",
  built: "launching",
  launching: "launching",
  ready: "ready",
  failed: "failed",
};

/**
 * @typedef {object} Step
 * @prop {string} stage
 * @prop {"todo" | "active" | "done" | "skipped" | "failed"} status
 * @prop {number} seconds spent in it before `since`
 * @prop {number | null} since when it became active, in seconds since the launch began
 *
 * @typedef {object} LaunchError
 * @prop {string} [code]
 * @prop {string} title
 * @prop {string} [detail]
 * @prop {string} [hint]
 * @prop {boolean} [retryable]
 * @prop {string} [reference]
 */

export class LaunchProgress {
  /** @param {number} began the latest time at which the launch can have begun; milliseconds */
  constructor(began) {
    this.began = began;
    /** @type {Step[]} */
    this.steps = STEPS.map((stage) => ({ stage, status: "todo", seconds: 0, since: null }));
    /** The stage as the server names it; "starting" before it says one. */
    this.stage = "starting";
    /** Whether the server names stages; else they are told from its phases. */
    this.hasStages = false;
    /** @type {number | null} of the whole launch, 0 to 100 */
    this.percent = null;
    /** @type {number | null} when the current stage is given up; seconds since the launch began */
    this.bound = null;
    /** @type {{position?: number, reason?: string} | null} */
    this.queue = null;
    /** @type {LaunchError | null} */
    this.error = null;
    /** @type {{url: string, token: string} | null} */
    this.ready = null;
  }

  get ended() {
    return this.error !== null || this.ready !== null;
  }

  /** @param {number} now milliseconds; returns seconds since the launch began */
  elapsed(now) {
    return Math.max(0, (now - this.began) / 1000);
  }

  /** @param {Step} step @param {number} elapsed seconds since the launch began */
  static secondsIn(step, elapsed) {
    return step.seconds + (step.since === null ? 0 : Math.max(0, elapsed - step.since));
  }

  /**
   * Take one event.
   *
   * @param {object} event
   * @param {number} now milliseconds
   */
  apply(event, now) {
    if (this.ended) return;
    const own = isNumber(event.elapsed);
    // an event travels for a while, or is told again after a reload: the earliest is the best witness
    if (own) this.began = Math.min(this.began, now - event.elapsed * 1000);
    const at = own ? event.elapsed : this.elapsed(now);
    this.hasStages ||= typeof event.stage === "string";
    const stage = this.#stageOf(event);
    if (stage !== this.stage) {
      this.#enter(stage, at);
      this.percent = this.bound = this.queue = null;
    }
    // once the server names stages, a log line's progress is that of a download or a push
    const ofLaunch = typeof event.stage === "string" || !this.hasStages;
    if (isNumber(event.progress) && ofLaunch) this.percent = Math.min(100, Math.max(0, event.progress));
    if (isNumber(event.remaining)) this.bound = at + event.remaining;
    if (event.stage) this.queue = event.queue && typeof event.queue === "object" ? event.queue : null;
    if (stage === "ready") this.ready = { url: event.url, token: event.token ?? "" };
    if (stage === "failed") this.error = errorOf(event);
  }

  #stageOf(event) {
    if (event.phase === "ready" || event.phase === "failed") return event.phase;
    // log lines of a build carry no stage: they belong to where the launch is
    if (this.hasStages) return typeof event.stage === "string" ? event.stage : this.stage;
    return STAGE_OF_PHASE[event.phase] ?? this.stage;
  }

  #enter(stage, at) {
    const current = this.steps.find((step) => step.status === "active");
    this.stage = stage;
    if (current) {
      current.seconds = LaunchProgress.secondsIn(current, at);
      current.since = null;
      current.status = stage === "failed" ? "failed" : "done";
    }
    if (stage === "failed") return;
    if (stage === "ready") {
      for (const step of this.steps) if (step.status === "todo") step.status = "skipped";
      return;
    }
    const index = this.#indexOf(stage, current);
    this.steps.forEach((step, i) => {
      if (i < index && step.status === "todo") step.status = "skipped";
      // back in line: what comes after it will be done again
      if (i > index) step.status = "todo";
    });
    Object.assign(this.steps[index], { status: "active", since: at });
  }

  #indexOf(stage, current) {
    const known = this.steps.findIndex((step) => step.stage === stage);
    if (known >= 0) return known;
    const step = { stage, status: "todo", seconds: 0, since: null };
    // waiting in line: before whatever comes next
    const index = current ? this.steps.indexOf(current) + 1 : 0;
    this.steps.splice(index, 0, step);
    return index;
  }
}

/** @param {object} event of the phase failed, of this service or of another */
function errorOf(event) {
  const error = event.error && typeof event.error === "object" ? event.error : {};
  const message = typeof event.message === "string" ? event.message.trim() : "";
  const title = text(error.title) || message || "The launch failed";
  return {
    code: text(error.code),
    title,
    detail: text(error.detail),
    hint: text(error.hint),
    retryable: error.retryable !== false,
    reference: text(error.reference),
  };
}

const text = (value) => (typeof value === "string" ? value : undefined);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
