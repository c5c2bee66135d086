// Past jobs.

import { isOver, json } from "./api.js";
import { $, make, say, show } from "./dom.js";
import { t, time } from "./texts.js";

const MOST = 50;

export class History {
  #open;
  #failed;
  #names;
  current = null;

  /**
   * @param open is called with a job to show.
   * @param failed is told of problems.
   * @param names what files were called, by the id of their job: the server never learns it.
   */
  constructor(open, failed, names) {
    this.#open = open;
    this.#failed = failed;
    this.#names = names;
  }

  /** Ask the server anew. */
  async refresh() {
    const { jobs } = await json(`/v1/jobs?most=${MOST}`);
    $("history").replaceChildren(...jobs.map((job) => this.#item(job)));
    show($("history-empty"), jobs.length === 0);
  }

  #item(job) {
    const when = { time: time(job.created) };
    const about = make("div", { className: "about" },
      make("span", { className: "file", textContent: this.#names.get(job.id) ?? when.time }),
      make("span", { className: "soft", }, ...this.#state(job)),
    );
    const buttons = [];
    if (job.state === "done")
      buttons.push(make("button", {
        type: "button", className: "quiet", textContent: t("open"), aria: { label: t("open_job", when) },
        on: { click: () => this.#open(job.id) },
      }));
    buttons.push(this.#end(job, when));
    const item = make("li", { data: { id: job.id, state: job.state } }, about, make("div", { className: "row" }, ...buttons));
    if (job.id === this.current) item.setAttribute("aria-current", "true");
    return item;
  }

  #state(job) {
    const when = this.#names.has(job.id) ? ` · ${time(job.created)}` : "";
    const state = make("span", { className: "state", textContent: t(`state_${job.state}`), title: job.error?.detail ?? "" });
    return job.state === "done" ? [`${job.model.name}${when}`] : [`${job.model.name} · `, state, when];
  }

  /** A button that cancels a job, or deletes one that is over when it is pressed twice. */
  #end(job, when) {
    const over = isOver(job);
    const button = make("button", {
      type: "button", className: "quiet", textContent: t(over ? "delete" : "cancel"),
      aria: { label: t(over ? "delete_job" : "cancel_job", when) },
      on: {
        click: async () => {
          if (over && !("sure" in button.dataset)) {
            button.dataset.sure = "";
            button.textContent = t("delete_really");
            button.setAttribute("aria-label", t("delete_really"));
            return;
          }
          button.disabled = true;
          try {
            await json(`/v1/jobs/${job.id}`, { method: "DELETE" });
            if (over) say(t("deleted"));
            await this.refresh();
          } catch (problem) {
            button.disabled = false;
            this.#failed(problem);
          }
        },
        blur: () => {
          delete button.dataset.sure;
          button.setAttribute("aria-label", t(over ? "delete_job" : "cancel_job", when));
          button.textContent = t(over ? "delete" : "cancel");
        },
      },
    });
    return button;
  }
}
