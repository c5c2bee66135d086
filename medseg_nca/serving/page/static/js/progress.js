// How far the job at work is.

import { $, make, say, show } from "./dom.js";
import { number, t } from "./texts.js";

export class Progress {
  #began = 0;
  #last = null;

  /** Begin to show one job. */
  begin(name) {
    this.#began = performance.now();
    this.#last = null;
    $("progress-name").textContent = name;
    show($("progress-card"));
    show($("progress-levels"), false);
    show($("cancel"));
    $("progress-card").dataset.state = "running";
  }

  /** Before the server has it: the share that was sent, or null. */
  sending(text, share) {
    this.#write(text, share, share !== null && share < 1 ? `${number(share * 100)} %` : "");
  }

  /** What the server says of it. */
  job(job) {
    this.#last = job;
    if (job.state === "queued") {
      this.#write(job.position > 1 ? t("queued", { position: job.position }) : t("queued_next"), null);
    } else if (job.state === "running") this.#running(job);
  }

  /** Say something while the result is fetched. */
  showing() {
    this.#write(t("showing"), 1);
    show($("progress-left"), false);
  }

  /** End with a text; `state` is done, failed or cancelled. */
  end(state, text) {
    $("progress-card").dataset.state = state;
    show($("cancel"), false);
    this.#levels(this.#last?.progress?.levels ?? 0, state === "done" ? Infinity : 0);
    this.#write(text, state === "done" ? 1 : 0);
    document.title = "medseg_nca";
  }

  #running({ progress, started }) {
    if (progress === undefined) return this.#write(t("starting"), null);
    const { phase, share, level, levels, step } = progress;
    if (phase === "reading") return this.#write(t("reading"), null);
    const key = level === undefined ? "computing" : step === undefined ? "computing_level" : "computing_step";
    this.#levels(levels ?? 0, level ?? 0);
    this.#write(t(key, progress), share, left(share, started));
    document.title = `${number((share ?? 0) * 100)} % – medseg_nca`;
  }

  #write(text, share, more = "") {
    const bar = $("progress-bar");
    if (share === null || share === undefined) bar.removeAttribute("value");
    else bar.value = share;
    $("progress-text").textContent = text;
    $("progress-left").textContent = more;
    show($("progress-left"));
    say(text.replace(/, (step|Schritt) .*/, ""));
  }

  /** One mark a level: those that are over, the one at work, those to come. */
  #levels(count, now) {
    const list = $("progress-levels");
    show(list, count > 1);
    if (list.children.length !== count)
      list.replaceChildren(...Array.from({ length: count }, (_, index) => make("li", { textContent: String(index + 1) })));
    for (const [index, item] of [...list.children].entries()) {
      item.dataset.state = index + 1 < now ? "over" : index + 1 === now ? "now" : "later";
      if (index + 1 === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
      item.setAttribute("aria-label", t("level", { level: index + 1 }));
    }
  }
}

/** About how long it still takes, once that can be said. */
function left(share, started) {
  const passed = (Date.now() - Date.parse(started)) / 1000;
  if (!share || share < 0.05 || passed < 3) return share ? `${number(share * 100)} %` : "";
  const seconds = (passed * (1 - share)) / share;
  if (seconds > 90) return t("minutes_left", { minutes: number(Math.round(seconds / 60)) });
  return t("seconds_left", { seconds: number(Math.ceil(seconds)) });
}
