// What came of a job: volumes of the labels, warnings, figures, files.

import { css } from "./colours.js";
import { $, make, show } from "./dom.js";
import { has, number, size, t } from "./texts.js";

/**
 * Show it.
 * @param job as the server describes it.
 * @param toggle is told (value, on) when a label is shown or hidden.
 * @param notes more of them, as texts.
 */
export function showResult(job, toggle, notes = []) {
  const { labels, model, warnings = [], estimate } = job;
  const isFlat = labels.every((label) => label.ml === null);
  $("result-model").textContent = `${model.name} ${model.version ?? ""}`;
  document.querySelector("#result th[data-t=volume]").hidden = isFlat;
  document.querySelector("#result thead th:last-child").textContent = t(isFlat ? "pixels" : "voxels");
  const known = estimate?.labels ?? {};
  const isEstimated = Object.keys(known).length > 0;
  show(document.querySelector("#result th.estimated"), isEstimated);
  const rows = labels.map((label, index) => row(label, index, isFlat, toggle, isEstimated ? quality(known[label.name], estimate) : []));
  if (labels.length > 1) rows.push(total(labels, isFlat, isEstimated ? [make("td")] : []));
  $("result-labels").replaceChildren(...rows);
  const empty = labels.every((label) => label.voxels === 0) ? [t("empty")] : [];
  const all = [...notes, ...empty, ...warnings];
  $("result-warnings").replaceChildren(...all.map((text) => make("li", { textContent: text })));
  show($("result-warnings"), all.length > 0);
  $("result-facts").replaceChildren(...facts(job));
  $("downloads").replaceChildren(...downloads(job));
  show($("result"));
}

const FORMATS = { nii: "NIfTI", nrrd: "NRRD", mha: "MHA", png: "PNG", tiff: "TIFF" };

export const hideResult = () => show($("result"), false);

function row(label, index, isFlat, toggle, more) {
  const id = `show-label-${index}`;
  const box = make("input", {
    type: "checkbox", id, checked: true, aria: { label: t("show_label", { label: label.name }) },
    on: { change: () => toggle(label.value, box.checked) },
  });
  const chip = make("span", { className: "chip", aria: { hidden: "true" } });
  chip.style.background = css(index);
  const name = make("th", { scope: "row" }, make("label", { htmlFor: id, className: "check" }, box, chip, label.name));
  return make("tr", {}, name, ...more, ...cells(label, isFlat));
}

/** The verdict as a badge with its word, and the predicted Dice with its interval; no number where nothing is known. */
function quality(one, { verdict, confidence }) {
  const cell = make("td", {}, badge(one?.verdict ?? verdict));
  if (one) {
    const [dice, low, high] = [one.dice, one.low, one.high].map((value) => number(value, 2));
    const title = confidence === null ? "" : t("interval", { percent: number(100 * confidence) });
    cell.append(" ", make("span", { className: "soft", title }, t("dice_about", { dice, low, high })));
  }
  return [cell];
}

const badge = (verdict) => make("span", { className: "badge", data: { verdict }, textContent: t(`verdict_${verdict}`) });

function total(labels, isFlat, more) {
  const sum = (name) => labels.reduce((all, label) => all + (label[name] ?? 0), 0);
  const whole = { ml: sum("ml"), voxels: sum("voxels") };
  return make("tr", { className: "total" }, make("th", { scope: "row", textContent: t("total") }), ...more, ...cells(whole, isFlat));
}

function cells({ ml, voxels }, isFlat) {
  const found = [make("td", { className: "number", textContent: number(voxels) })];
  const text = ml === null ? "–" : t("ml", { ml: number(ml, ml < 10 ? 2 : 1) });
  if (!isFlat) found.unshift(make("td", { className: "number strong", textContent: text }));
  return found;
}

function facts({ seconds, notes = [], model, attempts, storing, estimate }) {
  const pairs = [[t("fact_seconds"), t("fact_seconds_value", { seconds: number(seconds, 2) })]];
  if (estimate?.verdict === "unknown") pairs.push([t("quality"), t("verdict_unknown"), estimate.reasons.join(" ")]);
  if (attempts > 1) pairs.push([t("fact_attempts"), String(attempts)]);
  for (const note of notes) pairs.push([t("fact_note"), note]);
  if (storing) pairs.push([t("fact_storing"), t(`storing_${storing.state}`), storing.detail ?? ""]);
  if (model.sha256) pairs.push([t("fact_sha"), model.sha256.slice(0, 12), model.sha256]);
  return pairs.flatMap(([name, text, title = ""]) => [
    make("dt", { textContent: name }),
    make("dd", { textContent: text, title }),
  ]);
}

function downloads({ id, outputs }) {
  const report = { kind: "report", href: `/v1/jobs/${id}/outputs/report` };
  return [...outputs, report].map(({ kind, href, bytes, sha256, name = "" }) => {
    const text = [has(`output_${kind}`) ? t(`output_${kind}`) : kind, FORMATS[name.split(".")[1]]].filter(Boolean).join(", ");
    const link = make("a", { href, download: "", title: sha256 ? `sha256 ${sha256}` : "", data: { kind } }, text);
    if (bytes !== undefined) link.append(" ", make("span", { className: "soft", textContent: size(bytes) }));
    return make("li", {}, link);
  });
}
