// The page: it asks for one picture after the other, with the steps and strokes before it.

import { $, make, say, show } from "./dom.js";
import { ask, json } from "./api.js";
import { Board } from "./board.js";
import { fill, told } from "./facts.js";

const POST = (tree) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(tree),
});
const MOST_STEPS = 50;
const MOST_STROKES = 64;

let session = null;
let running = true;
let due = 0; // steps, with a fraction
let last = 0; // time of the last look
let wish = {}; // what the next look asks for once: reset, next_level, steps
let strokes = [];
let stale = true; // whether the picture has to be asked for although no step is taken
let busy = false;

const board = new Board($("board"), $("cursor"), (x, y) => {
  if (strokes.length < MOST_STROKES) strokes.push({ kind: kind(), x, y, radius: Number($("radius").value) });
});

const kind = () => document.querySelector("input[name=kind]:checked").value;

function chosen() {
  const view = $("view").value;
  const seed = $("seed").value.trim();
  return {
    view: /^\d+$/.test(view) ? Number(view) : view,
    overlay: $("overlay").checked,
    rate: $("trained").checked ? null : Number($("rate").value),
    seed: /^\d{1,9}$/.test(seed) ? Number(seed) : 0,
    ...(session.dims === 3 ? { axis: Number($("axis").value), slice: Number($("slice").value) } : {}),
  };
}

function problem(error) {
  run(false);
  $("problem-detail").textContent = error.message;
  $("problem-hint").textContent = error.hint ?? "";
  show($("problem"));
  $("ready").dataset.state = error.status === 0 ? "unreachable" : "not_ready";
  $("ready-text").textContent = error.status === 0 ? "Not reachable" : "Stopped";
}

function run(on) {
  running = on;
  due = 0;
  $("run").textContent = on ? "Pause" : "Run";
  $("run").setAttribute("aria-pressed", String(on));
  stale = true;
}

async function look() {
  const once = wish;
  const painted = strokes;
  wish = {};
  strokes = [];
  stale = false;
  const whole = Math.min(Math.floor(due), MOST_STEPS);
  due = Math.min(due - whole, 1);
  const tree = { ...chosen(), ...once, strokes: painted, steps: (once.steps ?? 0) + (running ? whole : 0) };
  const answer = await ask(`/v1/sessions/${session.id}/look`, POST(tree));
  const content = await answer.arrayBuffer();
  const length = new DataView(content).getUint32(0, true);
  const state = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length)));
  board.draw(state.width, state.height, content, 4 + length);
  fill($("facts"), state);
  show($("next"), state.level < state.levels);
  $("ready").dataset.state = "ready";
  $("ready-text").textContent = running ? "Running" : "Paused";
}

// A tab that is not shown is called no more, so that the automaton stops.
async function frame(now) {
  requestAnimationFrame(frame);
  if (session === null || busy) return;
  const passed = Math.min((now - last) / 1000, 0.5);
  last = now;
  if (running) due += passed * Number($("speed").value);
  if (!(due >= 1 || strokes.length || stale || Object.keys(wish).length)) return;
  busy = true;
  try {
    await look();
  } catch (error) {
    problem(error);
  } finally {
    busy = false;
  }
}

async function begin(place) {
  if (session !== null) await leave();
  session = null;
  const found = await json("/v1/sessions", POST({ input: place }));
  told(found);
  session = found;
  slices();
  run(true);
}

function leave() {
  const before = session.id;
  return fetch(`/v1/sessions/${before}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

function slices(middle = session.slice) {
  if (session.dims !== 3) return;
  const most = session.shape[Number($("axis").value)] - 1;
  $("slice").max = most;
  $("slice").value = Math.min(middle, most);
  shown();
}

function shown() {
  $("speed-value").textContent = $("speed").value;
  $("rate-value").textContent = $("trained").checked ? "trained" : Number($("rate").value).toFixed(2);
  $("radius-value").textContent = $("radius").value;
  $("slice-value").textContent = $("slice").value;
  board.radius = Number($("radius").value);
  stale = true;
}

function press(key) {
  const keys = {
    p: () => run(!running),
    s: () => step(),
    r: () => reset(),
    d: () => choose("erase"),
    e: () => choose("seed"),
    "+": () => grow(1),
    "-": () => grow(-1),
  };
  keys[key]?.();
  return key in keys;
}

function choose(value) {
  document.querySelector(`input[name=kind][value=${value}]`).checked = true;
  say(value === "erase" ? "The brush damages." : "The brush seeds.");
}

function grow(by) {
  $("radius").value = Number($("radius").value) + by;
  shown();
}

function step() {
  run(false);
  wish.steps = 1;
}

function reset() {
  wish = { reset: true };
  strokes = [];
  say("The automaton begins anew.");
}

function listen() {
  $("run").addEventListener("click", () => run(!running));
  $("step").addEventListener("click", step);
  $("reset").addEventListener("click", reset);
  $("next").addEventListener("click", () => (wish.next_level = true));
  $("rate").addEventListener("input", () => ($("trained").checked = false));
  for (const id of ["speed", "rate", "radius", "slice", "view", "overlay", "trained", "seed"]) {
    $(id).addEventListener("input", shown);
  }
  $("axis").addEventListener("input", () => slices(Math.floor(session.shape[Number($("axis").value)] / 2)));
  $("input").addEventListener("input", () => begin(Number($("input").value)).catch(problem));
  $("problem-close").addEventListener("click", () => {
    show($("problem"), false);
    stale = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=range], [type=radio], [type=checkbox]), select")) return;
    if (press(event.key.toLowerCase())) event.preventDefault();
  });
  addEventListener("pagehide", () => session && leave());
}

async function start() {
  const about = await json("/v1/about");
  $("model").textContent = `${about.model} (${about.task})`;
  $("version").textContent = `medseg_nca ${about.version}`;
  for (const [place, name] of about.inputs.entries()) {
    $("input").append(make("option", { value: String(place), textContent: name }));
  }
  show($("input-row"), about.inputs.length > 1);
  listen();
  await begin(0);
  shown();
  show($("work"));
  requestAnimationFrame(frame);
}

start().catch(problem);
