/** Models that generate, on their graphs: the search, and how likely each token of an answer was, by task. */

import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";
import { row } from "./artifact.mjs";

const GENERATE = "onnx/generate.onnx";
const ENCODER = "onnx/encoder_model.onnx";
const DECODER = "onnx/decoder_model_merged.onnx";
const MODEL = "onnx/model.onnx";
const NUM_CANDIDATES = 4; // for each token: the chosen one, and the likeliest others

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
 * graphs: all that are run; inputs: the ids that a text becomes; logits: of every token of an answer; fixed: the options
 * that the page sets beside those that a person chose, and the artifact gives the rest.
 */
export const TASKS = {
  seq2seq: {
    graphs: [GENERATE, ENCODER, DECODER],
    inputs: sourceIds,
    logits: targetLogits,
    fixed: () => ({ temperature: 0 }),
  },
  causal_lm: {
    graphs: [GENERATE, MODEL],
    inputs: promptIds,
    logits: continuationLogits,
    fixed: ({ temperature }) => (temperature > 0 ? { num_beams: 1 } : {}), // a sample has no beams
  },
};

/** Searches. Returns the hypotheses, best first: {ids (the end token included), text, score in nats}. */
export async function search(model, text, chosen) {
  const task = TASKS[model.manifest.task];
  const options = { ...model.manifest.decoding, ...chosen, ...task.fixed(chosen) };
  options.min_length = Math.min(options.min_length, options.max_length - 1);
  const ids = task.inputs(model, text, options.max_length);
  const rows = Object.entries(ROW_OPTIONS).map(([name, type]) => [name, new ort.Tensor(type, [options[name]], [1])]);
  const { sequences, scores } = await model.sessions[GENERATE].run({
    ...inputs(ids, "int32"),
    ...Object.fromEntries(rows),
  });
  const [, count, length] = sequences.dims;
  return Array.from({ length: count }, (_, index) => {
    const found = Array.from(sequences.data.subarray(index * length, (index + 1) * length));
    const end = found.indexOf(model.target.endId);
    const output = cutAtStop(model.target.decode(found), options.stop);
    return { ids: end < 0 ? found : found.slice(0, end + 1), text: output, score: scores.data[index] };
  });
}

/**
 * Returns for each token of an answer its candidates, the chosen one first: {id, probability}.
 *
 * All tokens in one call: what each position sees are the tokens before it, as in a search step by step.
 */
export async function probabilities(model, text, ids, { max_length }) {
  const task = TASKS[model.manifest.task];
  const { data, size, first } = await task.logits(model, task.inputs(model, text, max_length), ids);
  return ids.map((chosen, index) => candidates(data.subarray((first + index) * size).subarray(0, size), chosen));
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
  const encoded = await model.sessions[ENCODER].run(inputs(ids, "int64"));
  const graph = model.manifest.onnx[DECODER];
  const feed = {
    input_ids: row([model.target.startId, ...answer.slice(0, -1)], "int64"),
    encoder_attention_mask: inputs(ids, "int64").attention_mask,
    encoder_hidden_states: encoded.last_hidden_state,
    use_cache_branch: new ort.Tensor("bool", [false], [1]),
    ...firstPast(graph, encoded),
  };
  const read = Object.keys(graph.inputs).map((name) => [name, feed[name]]);
  const { logits } = await model.sessions[DECODER].run(Object.fromEntries(read));
  return { data: logits.data, size: logits.dims[2], first: 0 };
}

async function continuationLogits(model, ids, answer) {
  const { logits } = await model.sessions[MODEL].run({
    ...inputs([...ids, ...answer.slice(0, -1)], "int64"),
    ...firstPast(model.manifest.onnx[MODEL]),
  });
  return { data: logits.data, size: logits.dims[2], first: ids.length - 1 };
}

/**
 * The state before the first token: what a recurrent encoder gives as `present.*`; else keys and values of length 0, and
 * recurrent states of zeros.
 */
function firstPast(graph, encoded = {}) {
  const past = {};
  for (const [name, { shape }] of Object.entries(graph.inputs)) {
    if (!name.startsWith("past_")) continue;
    const sizes = [1, ...shape.slice(1).map((size) => (typeof size === "number" ? size : 0))];
    past[name] =
      encoded[name.replace(/^past_[a-z_]+/, "present")] ??
      new ort.Tensor("float32", new Float32Array(sizes.reduce((left, right) => left * right)), sizes);
  }
  return past;
}

function inputs(ids, type) {
  return { input_ids: row(ids, type), attention_mask: row(ids.map(() => 1), type) };
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
