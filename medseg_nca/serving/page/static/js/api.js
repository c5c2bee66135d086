// What the page asks of its server; the cookie of a login goes along by itself.

/** Why a request or a job came to nothing: as the server says it. */
export class Problem extends Error {
  constructor(status, detail, hint = "") {
    super(detail);
    this.status = status;
    this.hint = hint ?? "";
  }
}

function problemOf(status, text) {
  try {
    const tree = JSON.parse(text);
    return new Problem(status, String(tree.detail ?? status), tree.hint);
  } catch {
    return new Problem(status, `HTTP ${status}`);
  }
}

/** Ask; other answers than success are thrown as a Problem. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Problem(0, "The server does not answer.", "Is it running?");
  }
  if (!answer.ok) throw problemOf(answer.status, await answer.text());
  return answer;
}

export const json = async (path, options) => (await ask(path, options)).json();

export const bytes = async (path) => (await ask(path)).arrayBuffer();

/** Send a form; `moved` hears the share that was sent. Aborting the signal ends it. */
export function send(path, form, moved, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) moved(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(problemOf(request.status, request.responseText));
    });
    request.addEventListener("error", () => reject(new Problem(0, "The server does not answer.")));
    request.addEventListener("abort", () => reject(new Problem(0, "", "")));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

export const isOver = (job) => ["done", "failed", "cancelled"].includes(job.state);

/** Follow a job by its events until it is over; `moved` hears each state. */
export function follow(id, moved) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`/v1/jobs/${id}/events`);
    events.addEventListener("job", (event) => {
      const job = JSON.parse(event.data);
      moved(job);
      if (isOver(job)) {
        events.close();
        resolve(job);
      }
    });
    events.addEventListener("error", () => {
      // A cut line is taken up again by the browser; a refusal is not, and then one asks why.
      if (events.readyState !== EventSource.CLOSED) return;
      json(`/v1/jobs/${id}`).then((job) => (isOver(job) ? resolve(job) : follow(id, moved).then(resolve, reject)), reject);
    });
  });
}
