// The page: from a file to its segmentation, and back to those of before.

import { Problem, ask, bytes, follow, json, send } from "./api.js";
import { $, say, show } from "./dom.js";
import { dropped, isWanted } from "./drop.js";
import { History } from "./history.js";
import { chosen, describeModel, loadModels } from "./models.js";
import { Progress } from "./progress.js";
import { hideResult, showResult } from "./result.js";
import { Screen } from "./screen.js";
import { language, number, size, speak, t } from "./texts.js";
import { zip } from "./zip.js";

// Files that the server keeps as they are, so that what is shown of them needs no other file.
const KEPT = /\.(nii|nii\.gz|png)$/i;

const names = new Map(); // of files, by job
const samples = new Set(); // jobs of made-up images
const screen = new Screen();
const progress = new Progress();
const history = new History(open, failed, names);
let about = {};
let shownJob = null;
let current = null; // what the progress is of: {id, stop}
let drawing = Promise.resolve(); // what the screen is at
let onScreen = null; // whose image was shown last: `current` of that time, or a job

/** Segment files: one image, or several that are one (DICOM, channels). */
async function segment(files, name, isSample = false) {
  const model = chosen();
  if (files.length === 0) return failed(new Problem(0, t("nothing_dropped")));
  const all = files.reduce((sum, file) => sum + file.size, 0);
  if (all > about.body_bytes)
    return failed(new Problem(413, t("too_large", { size: size(all), most: size(about.body_bytes) })));
  current?.stop.abort();
  const mine = { id: null, stop: new AbortController() };
  current = mine;
  clearProblem();
  hideResult();
  shownJob = null;
  history.current = null;
  progress.begin(name);
  toView("progress-card");
  progress.sending(files.length > 1 ? t("packing", { count: number(files.length) }) : t("uploading"), null);
  screen.blank(t("blank_dicom"));
  onScreen = mine;
  try {
    const form = formOf(model, files.length > 1 ? await zip(files) : files[0]);
    const sent = await send("/v1/jobs", form, (share) => progress.sending(t("uploading"), share), mine.stop.signal);
    mine.id = sent.id;
    names.set(sent.id, name);
    if (isSample) samples.add(sent.id);
    progress.job(sent);
    history.refresh().catch(failed);
    const following = follow(sent.id, (now) => current === mine && progress.job(now));
    // Drawing may take the browser seconds where there is no GPU; the server is at work meanwhile.
    const preview = inTurn(() => files.length === 1 && onScreen === mine && screen.preview(files[0]));
    const job = await following;
    const shown = (await preview) && KEPT.test(files[0].name);
    if (current === mine) await ended(job, () => shown && onScreen === mine);
  } catch (problem) {
    if (current === mine) {
      screen.idle();
      progress.end("failed", t(mine.stop.signal.aborted ? "cancelled" : "failed"));
      if (!mine.stop.signal.aborted) failed(problem);
    }
  } finally {
    history.refresh().catch(() => {});
  }
}

/** Let one thing after another draw, so that the parts of two never mix. */
function inTurn(draw) {
  drawing = drawing.catch(() => {}).then(draw);
  return drawing;
}

function formOf(model, upload) {
  const form = new FormData();
  form.append("file", upload, "image"); // the name of a file may be a patient's
  form.append("model", model.name);
  form.append("format", model.dims === 2 ? "png" : "nifti");
  form.append("image", "true");
  if ($("uncertainty").checked) form.append("uncertainty", "8");
  const objects = ["rtstruct", "sr"].filter((id) => $(id).checked);
  if (objects.length) form.append("objects", ["dicom-seg", ...objects].join(","));
  if ($("select").value.trim()) form.append("select", $("select").value.trim());
  return form;
}

/** A job of this page has come to its end; `shown` tells whether its image is on the screen. */
async function ended(job, shown) {
  if (job.state === "done") {
    progress.showing();
    await inTurn(() => display(job, shown()));
    toView("viewer");
    progress.end("done", t("done", { seconds: number(job.seconds, 2) }));
  } else {
    progress.end(job.state, t(job.state));
    if (job.state === "failed") throw new Problem(job.error.status, job.error.detail, job.error.hint);
  }
}

/** Show a job that is done; its image too, unless it is shown already. */
async function display(job, shown = false) {
  shownJob = job;
  onScreen = job;
  history.current = job.id;
  const found = Object.fromEntries(job.outputs.map((output) => [output.kind, output]));
  const { label_map: map, image, uncertainty } = found;
  const [content, under] = await Promise.all([bytes(map.href), image && !shown ? bytes(image.href) : null]);
  if (under !== null) await screen.image(under, image.name, image.type);
  if (!(await screen.labels(content, map.name, map.type, job.labels, shown || under !== null))) screen.blank(t("no_view"));
  else if (uncertainty) await screen.uncertainty(await bytes(uncertainty.href), uncertainty.name);
  writeResult();
}

/** Where the page is one column: scroll to what happens now. */
function toView(id) {
  if (matchMedia("(max-width: 56rem)").matches) $(id).scrollIntoView({ block: "start" });
}

function writeResult() {
  if (shownJob === null) return;
  const notes = [];
  if (samples.has(shownJob.id)) notes.push(t("sample_note"));
  if (!shownJob.outputs.some(({ kind }) => kind === "image")) notes.push(t("no_image"));
  showResult(shownJob, (value, on) => screen.toggle(value, on), notes);
}

async function open(id) {
  clearProblem();
  try {
    const job = await json(`/v1/jobs/${id}`);
    await inTurn(() => display(job));
    await history.refresh();
    toView("viewer");
    $("result-title").focus({ preventScroll: true });
  } catch (problem) {
    failed(problem);
  }
}

async function segmentSample() {
  const model = chosen();
  try {
    const answer = await ask(`/page/sample/${encodeURIComponent(model.name)}`);
    const content = await answer.blob();
    const name = content.type === "image/png" ? "sample.png" : "sample.nii.gz";
    await segment([new File([content], name, { type: content.type })], t("sample_name"), true);
  } catch (problem) {
    failed(problem);
  }
}

/** Files in the order of their names: series and channels are told apart by it. */
function take(files) {
  const path = (file) => file.webkitRelativePath || file.name;
  const wanted = [...files].filter(isWanted);
  wanted.sort((one, other) => path(one).localeCompare(path(other), "en", { numeric: true }));
  const folder = wanted[0]?.webkitRelativePath.split("/")[0];
  const name = wanted.length === 1 ? wanted[0].name : `${folder || wanted[0]?.name} (${wanted.length})`;
  segment(wanted, name);
}

function failed(problem) {
  if (problem.status === 401) return signIn();
  $("problem-detail").textContent = problem.message;
  $("problem-hint").textContent = problem.hint ?? "";
  show($("problem"), problem.message !== "");
}

const clearProblem = () => show($("problem"), false);

function signIn() {
  show($("work"), false);
  show($("sign-in"));
  show($("user"), false);
  show($("sign-out"), false);
  $("name").focus();
}

async function begin() {
  about = await json("/page/about");
  $("version").textContent = `medseg_nca ${about.version}`;
  if (about.users && about.user === null) return signIn();
  if (about.users && wayBack() !== null) return location.replace(wayBack());
  show($("sign-in"), false);
  show($("work"));
  show($("ohif"), about.ohif);
  show($("user"), about.users);
  show($("sign-out"), about.users);
  $("user").textContent = about.user ?? "";
  for (const id of ["choose", "choose-folder", "sample"]) $(id).disabled = !about.may_send;
  show($("reader-hint"), !about.may_send);
  $("history-kept").textContent = t("history_kept", { days: number(about.job_age / 86400) });
  await loadModels(about.body_bytes);
  await history.refresh();
  if (chosen()?.dims === 3) setTimeout(() => screen.prepare());
}

/** The place in the viewer that somebody was sent here from to log in; null for any other place. */
function wayBack() {
  const then = new URL(new URLSearchParams(location.search).get("then") ?? "/", location.origin);
  return then.origin === location.origin && then.pathname.startsWith("/ohif/") ? then.href : null;
}

async function watchReady() {
  let state = "unreachable";
  try {
    const answer = await fetch("/page/ready", { cache: "no-store" });
    state = (await answer.json()).ready ? "ready" : "not_ready";
  } catch {
    // It is down: said by the text.
  }
  $("ready").dataset.state = state;
  $("ready-text").textContent = t(state);
  setTimeout(watchReady, state === "ready" ? 15000 : 1500);
}

function wire() {
  $("language").value = language;
  $("language").addEventListener("change", async () => {
    await speak($("language").value);
    $("ready-text").textContent = t($("ready").dataset.state);
    describeModel();
    screen.translate();
    writeResult();
    await begin();
  });
  $("model").addEventListener("change", describeModel);
  $("choose").addEventListener("click", () => $("files").click());
  $("choose-folder").addEventListener("click", () => $("folder").click());
  for (const id of ["files", "folder"])
    $(id).addEventListener("change", (event) => {
      take(event.target.files);
      event.target.value = "";
    });
  $("sample").addEventListener("click", segmentSample);
  $("cancel").addEventListener("click", () => {
    if (current?.id) json(`/v1/jobs/${current.id}`, { method: "DELETE" }).catch(failed);
    else current?.stop.abort();
  });
  $("problem-close").addEventListener("click", clearProblem);
  $("sign-out").addEventListener("click", async () => {
    await ask("/auth/logout", { method: "POST" }).catch(() => {});
    location.reload(); // nothing of the images stays in the page
  });
  $("sign-in-form").addEventListener("submit", signInSent);
  wireDrop();
}

/** Files may be dropped anywhere on the page. */
function wireDrop() {
  let depth = 0;
  const over = (on) => {
    $("drop").classList.toggle("over", on);
    document.querySelector(".drop-text").textContent = t(on ? "drop_now" : "drop");
  };
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") && about.may_send;
  addEventListener("dragenter", (event) => {
    if (holdsFiles(event)) over((depth += 1) > 0);
  });
  addEventListener("dragleave", (event) => {
    if (holdsFiles(event)) over((depth -= 1) > 0);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over((depth = 0) > 0);
    if (holdsFiles(event)) dropped(event.dataTransfer).then(take, failed);
  });
}

async function signInSent(event) {
  event.preventDefault();
  const form = new URLSearchParams(new FormData(event.target));
  show($("sign-in-problem"), false);
  try {
    await ask("/auth/token", { method: "POST", body: form });
    $("password").value = "";
    await begin();
    say(t("signed_in", { name: about.user }));
  } catch (problem) {
    $("sign-in-problem").textContent = problem.status === 401 ? t("wrong_password") : problem.message;
    show($("sign-in-problem"));
    $("password").select();
  }
}

await speak();
wire();
screen.blank(t("blank"));
watchReady();
begin().catch(failed);
