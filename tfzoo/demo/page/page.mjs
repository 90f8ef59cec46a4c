/** The page: loads one artifact, and answers by its graphs in this browser. */

import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";
import { Model, optionNames } from "./model.mjs";

const NUM_EXAMPLES = 4;
// Of a task, where it differs from what the page says: element -> text.
const WORDING = {
  seq2seq: {},
  causal_lm: { "text-label": "Prompt", answer: "Continue", "result-heading": "Continuation" },
};

const element = (id) => document.getElementById(id);

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}

/** Draws one token: a bar for each candidate, as long as it is probable. */
function draw(target, found) {
  const item = make("li");
  const list = item.appendChild(make("ul"));
  for (const [index, { id, probability }] of found.entries()) {
    const candidate = list.appendChild(make("li", index === 0 ? "candidate chosen" : "candidate"));
    const kind = target.isSpecial(id) ? "label special" : "label";
    const label = candidate.appendChild(make("span", kind, target.label(id)));
    label.title = label.textContent;
    candidate.appendChild(make("span", "", percent(probability)));
    const bar = candidate.appendChild(make("span", "bar"));
    bar.style.width = `${100 * probability}%`;
    bar.setAttribute("aria-hidden", "true");
  }
  return item;
}

async function answer(model) {
  const text = element("text").value;
  const options = {};
  for (const name of model.task.options) options[name] = element(name).valueAsNumber;
  const start = performance.now();
  const [best, ...others] = await model.search(text, options);
  const searched = performance.now();
  const found = await model.probabilities(text, best.ids, options);
  const done = performance.now();
  element("output").textContent = best.text;
  element("timing").textContent =
    `${best.ids.length} tokens in ${Math.round(searched - start)} ms, their probabilities in ` +
    `${Math.round(done - searched)} ms; score ${best.score.toFixed(3)} nats`;
  element("hypotheses").replaceChildren(
    ...others.map(({ text, score }) => {
      const item = make("li", "", `${text} `);
      item.appendChild(make("span", "score", score.toFixed(3)));
      return item;
    }),
  );
  element("others").hidden = others.length === 0;
  element("tokens").replaceChildren(...found.map((token) => draw(model.target, token)));
  element("result").hidden = false;
}

function fail(error) {
  element("error").textContent = error.message;
  element("error").hidden = false;
  element("loading").hidden = true;
}

/** Fills in what the manifest says, before anything large is loaded. */
function describe(manifest) {
  document.title = `${manifest.name}: tfzoo demo`;
  element("name").textContent = manifest.name;
  const recipe = manifest.recipe ? `, trained by ${manifest.recipe.name}` : "";
  element("about").textContent = `${manifest.num_parameters.toLocaleString("en")} parameters${recipe}`;
  for (const [id, text] of Object.entries(WORDING[manifest.task])) element(id).textContent = text;
  element("text").required = manifest.task === "seq2seq"; // a language model goes on from nothing too
  for (const input of document.querySelectorAll(".options input")) {
    input.value = manifest.decoding[input.id];
    input.hidden = input.labels[0].hidden = input.disabled = !optionNames(manifest).includes(input.id);
  }
  element("max_length").max = manifest.max_length;
  for (const text of manifest.golden.texts.filter((text) => text).slice(0, NUM_EXAMPLES)) {
    const button = element("examples").appendChild(make("button", "", text));
    button.type = "button";
    button.addEventListener("click", () => {
      element("text").value = text;
      element("form").requestSubmit();
    });
  }
}

async function main() {
  const manifest = await (await fetch("artifact/manifest.json")).json();
  describe(manifest);
  const start = performance.now();
  let megabytes = 0;
  const model = await Model.load(manifest, (loaded, total) => {
    megabytes = (total / 1e6).toFixed(1);
    element("progress").value = loaded / total;
    element("loading-label").textContent =
      loaded < total ? `Loading: ${(loaded / 1e6).toFixed(1)} of ${megabytes} MB` : "Checking and preparing the graphs";
  });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  element("loading").hidden = true;
  const threads = ort.env.wasm.numThreads === 1 ? "one thread" : `${ort.env.wasm.numThreads} threads`;
  element("runtime").textContent =
    `Computed in this browser by ONNX Runtime Web ${ort.env.versions.web} in ${threads}: what you type stays here. ` +
    `Loaded ${megabytes} MB in ${seconds} s.`;

  let busy = false; // the controls stay enabled meanwhile: disabling them would take the keyboard's focus away
  element("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    element("form").setAttribute("aria-busy", "true");
    element("error").hidden = true;
    try {
      await answer(model);
    } catch (error) {
      fail(error);
    }
    element("form").setAttribute("aria-busy", "false");
    busy = false;
  });
  element("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    element("form").requestSubmit();
  });
  element("controls").disabled = false;
  element("text").focus();
}

main().catch(fail);
