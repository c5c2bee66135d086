// The models in service, and which one is chosen.

import { json } from "./api.js";
import { css } from "./colours.js";
import { $, make } from "./dom.js";
import { number, size, t } from "./texts.js";

let models = [];
let most = 0;

/** Ask which there are; `bytes` is the most that an image may have. */
export async function loadModels(bytes) {
  most = bytes;
  const before = $("model").value;
  ({ models } = await json("/v1/models"));
  $("model").replaceChildren(...models.map(({ name }) => make("option", { value: name, textContent: name })));
  if (models.some(({ name }) => name === before)) $("model").value = before;
  describeModel();
}

export const chosen = () => models.find(({ name }) => name === $("model").value);

/** Write what the chosen model is. */
export function describeModel() {
  const model = chosen();
  if (model === undefined) return;
  $("model-labels").replaceChildren(...model.labels.map(({ name, code }, index) => {
    const chip = make("span", { className: "chip", aria: { hidden: "true" } });
    chip.style.background = css(index);
    return make("li", { title: code ? `${code.scheme} ${code.value} ${code.meaning}` : "" }, chip, name);
  }));
  const facts = [[t("model_takes"), t(`model_takes_${model.dims}`, { channels: model.channels.join(", ") })]];
  if (model.metrics.dice !== undefined) facts.push([t("model_dice"), number(model.metrics.dice, 3)]);
  if (model.training_data) facts.push([t("model_trained"), model.training_data]);
  facts.push([t("model_version"), model.version]);
  $("model-facts").replaceChildren(...facts.flatMap(([name, text]) => [
    make("dt", { textContent: name }), make("dd", { textContent: text }),
  ]));
  $("drop-kinds").textContent = t(`kinds_${model.dims}`, { size: size(most) });
}
