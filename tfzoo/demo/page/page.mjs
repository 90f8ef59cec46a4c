/** The page: loads one artifact, and answers by its graphs in this browser. */

import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";
import { END_ID, START_ID, loadPair } from "./tokenizer.mjs";

const GENERATE = "onnx/generate.onnx";
const ENCODER = "onnx/encoder_model.onnx";
const DECODER = "onnx/decoder_model_merged.onnx";
const NUM_CANDIDATES = 4; // bars for each token: the chosen one, and the likeliest others
const NUM_EXAMPLES = 4;
const MAX_THREADS = 4; // more do not help models of this size

const element = (id) => document.getElementById(id);

/** Fetches files together; `onProgress` gets bytes and total bytes. Returns their contents in order. */
async function download(urls, onProgress) {
  const responses = await Promise.all(urls.map((url) => fetch(url)));
  for (const response of responses) {
    if (!response.ok) throw new Error(`${response.url} cannot be loaded (${response.status}).`);
  }
  const total = responses.reduce((sum, response) => sum + Number(response.headers.get("Content-Length")), 0);
  let loaded = 0;
  return Promise.all(
    responses.map(async (response) => {
      const content = new Uint8Array(Number(response.headers.get("Content-Length")));
      let position = 0;
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) return content;
        content.set(value, position);
        position += value.length;
        loaded += value.length;
        onProgress(loaded, total);
      }
    }),
  );
}

/** Compares a file with the manifest's digest: a flipped bit in a weight is no error to any runtime. */
async function check(manifest, path, content) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== manifest.files[path].sha256) {
    throw new Error(`${path} differs from the file that was proved; copy the artifact again.`);
  }
}

/** An artifact whose graphs and tokenizers are ready. */
class Model {
  static async load(manifest, onProgress) {
    const tokenizers = await loadPair(Object.keys(manifest.files), async (path) => {
      const [content] = await download([`artifact/${path}`], () => {});
      await check(manifest, path, content);
      return content;
    });
    const paths = [GENERATE, ENCODER, DECODER];
    const [wasm, ...graphs] = await download(
      ["onnxruntime-web/ort-wasm-simd-threaded.wasm", ...paths.map((path) => `artifact/${path}`)],
      onProgress,
    );
    await Promise.all(paths.map((path, index) => check(manifest, path, graphs[index])));
    ort.env.wasm.wasmBinary = wasm.buffer;
    ort.env.wasm.wasmPaths = new URL("onnxruntime-web/", location.href).href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
    ort.env.wasm.proxy = true; // in a worker: the page stays alive while it computes
    const sessions = [];
    for (const graph of graphs) sessions.push(await ort.InferenceSession.create(graph));
    return new Model(manifest, tokenizers, sessions);
  }

  constructor(manifest, { source, target }, [generate, encoder, decoder]) {
    Object.assign(this, { manifest, source, target, generate, encoder, decoder });
  }

  /** Searches. Returns the hypotheses, best first: {ids (the end token included), text, score in nats}. */
  async search(text, { num_beams, max_length, length_penalty }) {
    const one = (type, value) => new ort.Tensor(type, [value], [1]);
    const { sequences, scores } = await this.generate.run({
      ...this.#read(text, "int32"),
      num_beams: one("int32", num_beams),
      max_length: one("int32", max_length),
      length_penalty: one("float32", length_penalty),
      temperature: one("float32", 0),
      top_k: one("int32", 0),
      top_p: one("float32", 1),
      seed: one("int32", 0),
    });
    const [, count, length] = sequences.dims;
    return Array.from({ length: count }, (_, row) => {
      const ids = Array.from(sequences.data.subarray(row * length, (row + 1) * length));
      const end = ids.indexOf(END_ID);
      return {
        ids: end < 0 ? ids : ids.slice(0, end + 1),
        text: this.target.decode(ids),
        score: scores.data[row],
      };
    });
  }

  /** Returns for each produced token its candidates, the chosen one first: {id, probability}. */
  async probabilities(text, ids) {
    // The worker takes a tensor's memory away with it: none is given to it twice.
    const { last_hidden_state } = await this.encoder.run(this.#read(text, "int64"));
    const past = {};
    for (const [name, { shape }] of Object.entries(this.manifest.onnx[DECODER].inputs)) {
      if (!name.startsWith("past_key_values.")) continue;
      past[name] = new ort.Tensor("float32", new Float32Array(), [1, shape[1], 0, shape[3]]);
    }
    // All tokens in one call: what each position sees are the tokens before it, as in a search step by step.
    const { logits } = await this.decoder.run({
      input_ids: row([START_ID, ...ids.slice(0, -1)], "int64"),
      encoder_attention_mask: this.#read(text, "int64").attention_mask,
      encoder_hidden_states: last_hidden_state,
      use_cache_branch: new ort.Tensor("bool", [false], [1]),
      ...past,
    });
    const size = logits.dims[2];
    return ids.map((chosen, index) => candidates(logits.data.subarray(index * size, (index + 1) * size), chosen));
  }

  /** A graph's inputs for a text: cut to what the model takes, the end token behind it. */
  #read(text, type) {
    const ids = [...this.source.encode(text).slice(0, this.manifest.max_length - 1), END_ID];
    return { input_ids: row(ids, type), attention_mask: row(ids.map(() => 1), type) };
  }
}

/** One row of ids: (1, length), int32 for the search, int64 for the encoder and the decoder. */
function row(ids, type) {
  const data = type === "int32" ? Int32Array.from(ids) : BigInt64Array.from(ids, BigInt);
  return new ort.Tensor(type, data, [1, ids.length]);
}

function candidates(logits, chosen) {
  const highest = logits.reduce((left, right) => Math.max(left, right));
  const weights = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = weights.reduce((left, right) => left + right);
  const others = [...weights.keys()].filter((id) => id !== chosen).sort((left, right) => weights[right] - weights[left]);
  return [chosen, ...others.slice(0, NUM_CANDIDATES - 1)].map((id) => ({ id, probability: weights[id] / sum }));
}

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
    const label = candidate.appendChild(make("span", id < 4 ? "label special" : "label", target.label(id)));
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
  for (const name of ["num_beams", "max_length", "length_penalty"]) options[name] = element(name).valueAsNumber;
  const start = performance.now();
  const [best, ...others] = await model.search(text, options);
  const searched = performance.now();
  const found = await model.probabilities(text, best.ids);
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
  for (const name of ["num_beams", "max_length", "length_penalty"]) element(name).value = manifest.decoding[name];
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
