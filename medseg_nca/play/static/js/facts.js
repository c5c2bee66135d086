// What the page says of an automaton: once at the beginning, and with every picture.

import { $, make, show } from "./dom.js";

/** The choices that fit this automaton. */
export function told(session) {
  const views = [["answer", "Answer"], ...(session.image ? [["image", "Image"]] : [])];
  session.channels.forEach((name, number) => views.push([String(number), `Channel ${number}: ${name}`]));
  $("view").replaceChildren(...views.map(([value, textContent]) => make("option", { value, textContent })));
  show($("overlay-row"), session.image);
  show($("axis-row"), session.dims === 3);
  show($("slice-row"), session.dims === 3);
  if (session.dims === 3) $("axis").value = String(session.axis);
  if ($("trained").checked) $("rate").value = session.rates[0];
  $("legend").replaceChildren(
    ...session.legend.map(([name, colour]) => {
      const chip = make("span", { className: "chip" });
      chip.style.backgroundColor = `rgb(${colour.join(" ")})`;
      return make("li", {}, chip, make("span", { textContent: name }));
    }),
  );
  $("notes").replaceChildren(...session.notes.map((textContent) => make("li", { textContent })));
}

const few = (value) => (Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(4) : value.toExponential(1));

/** The state after the last look, row by row; rows that are there are changed in place. */
export function fill(list, state) {
  const rows = [
    ...(state.levels > 1 ? [["level", "Level", `${state.level} of ${state.levels}`]] : []),
    ["step", "Step", `${state.step} (trained: ${state.steps})`],
    ["change", "Change in a step", few(state.change)],
    ...Object.entries(state.readings).map(([name, value]) => [name, name, few(value)]),
  ];
  const keys = rows.map(([key]) => key).join("\n");
  if (list.dataset.keys !== keys) {
    list.dataset.keys = keys;
    list.replaceChildren(
      ...rows.flatMap(([key, name]) => [make("dt", { textContent: name }), make("dd", { data: { fact: key } })]),
    );
  }
  const cells = list.querySelectorAll("dd");
  rows.forEach(([, , text], place) => {
    cells[place].textContent = text;
  });
}
