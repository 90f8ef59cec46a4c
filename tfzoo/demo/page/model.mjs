/** An artifact's graphs on ONNX Runtime: the search, and how likely each token of an answer was, by task. */

import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";
import { loadPair } from "./tokenizer.mjs";

const GENERATE = "onnx/generate.onnx";
const ENCODER = "onnx/encoder_model.onnx";
const DECODER = "onnx/decoder_model_merged.onnx";
const MODEL = "onnx/model.onnx";
const NUM_CANDIDATES = 4; // for each token: the chosen one, and the likeliest others
const MAX_THREADS = 4; // more do not help models of this size

// Of generate.onnx, one number for each row, with its type there.
const ROW_OPTIONS = {
  max_length: "int32",
  min_length: "int32",
  num_beams: "int32",
  length_penalty: "float32",
  repetition_penalty: "float32",
  temperature: "float32",
  top_k: "int32",
  top_p: "float32",
  seed: "int32",
};

/**
 * graphs: beside the search; inputs: the ids that a text becomes; logits: of every token of an answer; options: those
 * that a person is asked for; fixed: those that the page sets, and the artifact gives the rest.
 */
const TASKS = {
  seq2seq: {
    graphs: [ENCODER, DECODER],
    inputs: sourceIds,
    logits: targetLogits,
    options: ["num_beams", "max_length", "length_penalty"],
    fixed: () => ({ temperature: 0 }),
  },
  causal_lm: {
    graphs: [MODEL],
    inputs: promptIds,
    logits: continuationLogits,
    options: ["temperature", "seed", "max_length"],
    fixed: ({ temperature }) => (temperature > 0 ? { num_beams: 1 } : {}), // a sample has no beams
  },
};

/** Which options a person is asked for, of those in `manifest.decoding`. */
export function optionNames(manifest) {
  return TASKS[manifest.task].options;
}

/** An artifact whose graphs and tokenizers are ready. */
export class Model {
  /** Fetches and checks all files; `onProgress` gets bytes and total bytes. */
  static async load(manifest, onProgress) {
    const tokenizers = await loadPair(Object.keys(manifest.files), async (path) => {
      const [content] = await download([`artifact/${path}`], () => {});
      await check(manifest, path, content);
      return content;
    });
    const paths = [GENERATE, ...TASKS[manifest.task].graphs];
    const [wasm, ...graphs] = await download(
      ["onnxruntime-web/ort-wasm-simd-threaded.wasm", ...paths.map((path) => `artifact/${path}`)],
      onProgress,
    );
    await Promise.all(paths.map((path, index) => check(manifest, path, graphs[index])));
    ort.env.wasm.wasmBinary = wasm.buffer;
    ort.env.wasm.wasmPaths = new URL("onnxruntime-web/", location.href).href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
    ort.env.wasm.proxy = true; // in a worker: the page stays alive while it computes
    const sessions = {};
    for (const [index, graph] of graphs.entries()) {
      sessions[paths[index]] = await ort.InferenceSession.create(graph);
    }
    return new Model(manifest, tokenizers, sessions);
  }

  constructor(manifest, { source, target }, sessions) {
    Object.assign(this, { manifest, source, target, sessions, task: TASKS[manifest.task] });
  }

  /** Searches. Returns the hypotheses, best first: {ids (the end token included), text, score in nats}. */
  async search(text, chosen) {
    const options = { ...this.manifest.decoding, ...chosen, ...this.task.fixed(chosen) };
    options.min_length = Math.min(options.min_length, options.max_length - 1);
    const ids = this.task.inputs(this, text, options.max_length);
    const rows = Object.entries(ROW_OPTIONS).map(([name, type]) => [name, new ort.Tensor(type, [options[name]], [1])]);
    const { sequences, scores } = await this.sessions[GENERATE].run({
      ...inputs(ids, "int32"),
      ...Object.fromEntries(rows),
    });
    const [, count, length] = sequences.dims;
    return Array.from({ length: count }, (_, row) => {
      const found = Array.from(sequences.data.subarray(row * length, (row + 1) * length));
      const end = found.indexOf(this.target.endId);
      const output = cutAtStop(this.target.decode(found), options.stop);
      return { ids: end < 0 ? found : found.slice(0, end + 1), text: output, score: scores.data[row] };
    });
  }

  /**
   * Returns for each token of an answer its candidates, the chosen one first: {id, probability}.
   *
   * All tokens in one call: what each position sees are the tokens before it, as in a search step by step.
   */
  async probabilities(text, ids, { max_length }) {
    const { data, size, first } = await this.task.logits(this, this.task.inputs(this, text, max_length), ids);
    return ids.map((chosen, index) => candidates(data.subarray((first + index) * size).subarray(0, size), chosen));
  }
}

/** A text, cut to what the encoder takes, with the end token behind it. */
function sourceIds({ source, manifest }, text) {
  return [...source.encode(text).slice(0, manifest.max_length - 1), source.endId];
}

/** A prompt; one that leaves no room for the answer loses its beginning, an empty one is the end token. */
function promptIds({ source, manifest }, text, maxLength) {
  const ids = source.encode(text + manifest.prompt_suffix);
  const room = Math.max(manifest.max_length - maxLength + 1, 1); // the last token generated is never read
  return ids.length ? ids.slice(-room) : [source.endId];
}

async function targetLogits(model, ids, answer) {
  // The worker takes a tensor's memory away with it: none is given to it twice.
  const { last_hidden_state } = await model.sessions[ENCODER].run(inputs(ids, "int64"));
  const { logits } = await model.sessions[DECODER].run({
    input_ids: row([model.target.startId, ...answer.slice(0, -1)], "int64"),
    encoder_attention_mask: inputs(ids, "int64").attention_mask,
    encoder_hidden_states: last_hidden_state,
    use_cache_branch: new ort.Tensor("bool", [false], [1]),
    ...noPast(model.manifest.onnx[DECODER]),
  });
  return { data: logits.data, size: logits.dims[2], first: 0 };
}

async function continuationLogits(model, ids, answer) {
  const { logits } = await model.sessions[MODEL].run({
    ...inputs([...ids, ...answer.slice(0, -1)], "int64"),
    ...noPast(model.manifest.onnx[MODEL]),
  });
  return { data: logits.data, size: logits.dims[2], first: ids.length - 1 };
}

/** The state before the first token: keys and values of length 0, recurrent states of zeros. */
function noPast(graph) {
  const past = {};
  for (const [name, { shape }] of Object.entries(graph.inputs)) {
    if (!name.startsWith("past_")) continue;
    const sizes = [1, ...shape.slice(1).map((size) => (typeof size === "number" ? size : 0))];
    past[name] = new ort.Tensor("float32", new Float32Array(sizes.reduce((left, right) => left * right)), sizes);
  }
  return past;
}

function inputs(ids, type) {
  return { input_ids: row(ids, type), attention_mask: row(ids.map(() => 1), type) };
}

/** One row of ids: (1, length), int32 for the search, int64 for the other graphs. */
function row(ids, type) {
  const data = type === "int32" ? Int32Array.from(ids) : BigInt64Array.from(ids, BigInt);
  return new ort.Tensor(type, data, [1, ids.length]);
}

function candidates(logits, chosen) {
  const highest = logits.reduce((left, right) => Math.max(left, right));
  const weights = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = weights.reduce((left, right) => left + right);
  const sorted = [...weights.keys()].sort((left, right) => weights[right] - weights[left]);
  const others = sorted.filter((id) => id !== chosen).slice(0, NUM_CANDIDATES - 1);
  return [chosen, ...others].map((id) => ({ id, probability: weights[id] / sum }));
}

/** The text before the first of the stop texts in it. */
function cutAtStop(text, stop) {
  const found = stop.map((one) => text.indexOf(one)).filter((at) => at >= 0);
  return found.length ? text.slice(0, Math.min(...found)) : text;
}

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
