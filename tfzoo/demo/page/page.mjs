/** The page: loads one artifact, and answers by its graphs in this browser. */

import { loadArtifact, runtimeName } from "./artifact.mjs";
import { element, make } from "./draw.mjs";
import { ENCODER_VIEWS } from "./encoder_view.mjs";
import { GENERATION_VIEWS } from "./generation_view.mjs";

const NUM_EXAMPLES = 4;

/**
 * How each task is shown.
 *
 * graphs: those that are run. answer: (model, texts, options) -> {output, details, others, picture}. The rest where it
 * differs from `USUAL`. fields: manifest -> what each text field is called. examples: golden texts -> the fields' values.
 * wording: element -> text. options: those in `manifest.decoding` that a person is asked for. takesNothing: whether an
 * empty text is one.
 */
const VIEWS = { ...GENERATION_VIEWS, ...ENCODER_VIEWS };
const USUAL = {
  fields: () => ["Text"],
  examples: (texts) => texts.map((text) => [text].flat()),
  wording: {},
  options: [],
  takesNothing: false,
};

const texts = [element("text"), element("text_b")];

async function answer(view, model) {
  const asked = texts.filter(({ disabled }) => !disabled).map(({ value }) => value);
  const options = Object.fromEntries(view.options.map((name) => [name, element(name).valueAsNumber]));
  const { output, details, others = [], picture } = await view.answer(model, asked, options);
  element("output").replaceChildren(...[output].flat());
  element("timing").textContent = details;
  element("hypotheses").replaceChildren(
    ...others.map(({ text, score }) => make("li", "", [`${text} `, make("span", "score", score.toFixed(3))])),
  );
  element("others").hidden = others.length === 0;
  element("picture").hidden = picture === undefined;
  element("picture-heading").textContent = picture?.heading;
  element("picture-hint").textContent = picture?.hint ?? "";
  element("drawing").replaceChildren(...(picture?.content ?? []));
  element("result").hidden = false;
}

function fail(error) {
  element("error").textContent = error.message;
  element("error").hidden = false;
  element("loading").hidden = true;
}

/** Fills in what the manifest says, before anything large is loaded. */
function describe(manifest, view) {
  document.title = `${manifest.name}: tfzoo demo`;
  element("name").textContent = manifest.name;
  const recipe = manifest.recipe ? `, trained by ${manifest.recipe.name}` : "";
  element("about").textContent = `${manifest.num_parameters.toLocaleString("en")} parameters${recipe}`;
  const labels = view.fields(manifest);
  for (const [index, text] of texts.entries()) {
    text.hidden = text.labels[0].hidden = text.disabled = index >= labels.length;
    text.required = !view.takesNothing;
    text.labels[0].textContent = labels[index];
  }
  for (const [id, text] of Object.entries(view.wording)) element(id).textContent = text;
  element("options").hidden = view.options.length === 0;
  for (const input of element("options").querySelectorAll("input")) {
    input.hidden = input.labels[0].hidden = input.disabled = !view.options.includes(input.id);
    if (!input.disabled) input.value = manifest.decoding[input.id];
  }
  element("max_length").max = manifest.max_length;
  const examples = view.examples(manifest.golden.texts).filter((values) => values.every((value) => value));
  for (const values of examples.slice(0, NUM_EXAMPLES)) {
    const button = element("examples").appendChild(make("button", "", values.join(" · ")));
    button.type = "button";
    button.addEventListener("click", () => {
      for (const [index, value] of values.entries()) texts[index].value = value;
      element("form").requestSubmit();
    });
  }
}

async function main() {
  const manifest = await (await fetch("artifact/manifest.json")).json();
  const view = { ...USUAL, ...VIEWS[manifest.task] };
  describe(manifest, view);
  const start = performance.now();
  let megabytes = 0;
  const model = await loadArtifact(manifest, view.graphs, (loaded, total) => {
    megabytes = (total / 1e6).toFixed(1);
    element("progress").value = loaded / total;
    element("loading-label").textContent =
      loaded < total ? `Loading: ${(loaded / 1e6).toFixed(1)} of ${megabytes} MB` : "Checking and preparing the graphs";
  });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  element("loading").hidden = true;
  element("runtime").textContent =
    `Computed in this browser by ${runtimeName()}: what you type stays here. Loaded ${megabytes} MB in ${seconds} s.`;

  let busy = false; // the controls stay enabled meanwhile: disabling them would take the keyboard's focus away
  element("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    element("form").setAttribute("aria-busy", "true");
    element("error").hidden = true;
    try {
      await answer(view, model);
    } catch (error) {
      fail(error);
    }
    element("form").setAttribute("aria-busy", "false");
    busy = false;
  });
  for (const text of texts) {
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      element("form").requestSubmit();
    });
  }
  element("controls").disabled = false;
  element("text").focus();
}

main().catch(fail);
