// An artifact opened by ONNX Runtime alone, with tokenizer.json read by @huggingface/tokenizers.
//
// Request: `artifact`, `task`, `texts`, `searches` (name -> options of generate.onnx), `max_length` (tokens), and for a
// language model `prompt_suffix`. Answer: each search by generate.onnx, and "loop": the greedy loop over the other
// graphs that a client writes to show tokens as they come.
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-node";

const [PAD, START, END] = [0n, 2n, 3n]; // pad_token_id, decoder_start_token_id, eos_token_id of seq2seq's config.json
const FLOATS = new Set(["length_penalty", "repetition_penalty", "temperature", "top_p"]);

async function seq2seq({ artifact, texts, searches, max_length }) {
  const side = (name) => (existsSync(path.join(artifact, "tokenizer.json")) ? artifact : path.join(artifact, name));
  const source = openTokenizer(side("source"));
  const target = openTokenizer(side("target"));
  const rows = texts.map((text) => encode(source, text));
  const open = (name) => ort.InferenceSession.create(path.join(artifact, "onnx", name));

  const answers = await searchAll(await open("generate.onnx"), inputs(rows, "int32", PAD), searches, target, END);
  const [encoder, decoder] = [await open("encoder_model.onnx"), await open("decoder_model_merged.onnx")];
  const loop = await greedyLoop(encoder, decoder, rows, max_length);
  return { ...answers, loop: loop.map((ids) => [answer(target, ids, END)]) };
}

// A language model's: prompts have no end token, and the special tokens have other ids.
async function causal_lm({ artifact, texts, searches, max_length, prompt_suffix }) {
  const tokenizer = openTokenizer(artifact);
  const config = JSON.parse(readFileSync(path.join(artifact, "config.json"), "utf8"));
  const [pad, end] = [BigInt(config.pad_token_id), BigInt(config.eos_token_id)];
  const rows = texts.map((text) => {
    const { ids } = tokenizer.encode(text + prompt_suffix, { add_special_tokens: false });
    return ids.length ? ids.map(BigInt) : [end];
  });
  const open = (name) => ort.InferenceSession.create(path.join(artifact, "onnx", name));
  const answers = await searchAll(await open("generate.onnx"), inputs(rows, "int32", pad), searches, tokenizer, end);
  const loop = await promptLoop(await open("model.onnx"), rows, max_length, pad, end);
  return { ...answers, loop: loop.map((ids) => [answer(tokenizer, ids, end)]) };
}

// Search name -> for each row its hypotheses.
async function searchAll(generate, feed, searches, tokenizer, end) {
  const answers = {};
  for (const [search, options] of Object.entries(searches)) {
    const found = await generate.run({ ...feed, ...rowOptions(options, feed.input_ids.dims[0]) });
    const [batch, width, length] = found.sequences.dims;
    const [ids, logProbs] = [Array.from(found.sequences.data), Array.from(found.log_probs.data)];
    answers[search] = Array.from({ length: batch }, (_, row) =>
      Array.from({ length: width }, (_, rank) => {
        const first = (row * width + rank) * length;
        const one = answer(tokenizer, ids.slice(first, first + length), end);
        return { ...one, log_probs: logProbs.slice(first, first + one.token_ids.length) };
      }),
    );
  }
  return answers;
}

function answer(tokenizer, ids, endId) {
  const end = ids.indexOf(Number(endId));
  const token_ids = end < 0 ? ids : ids.slice(0, end + 1);
  // The package refuses to decode an empty sequence; one of special tokens alone is no text either.
  return { token_ids, text: token_ids.length ? tokenizer.decode(token_ids, { skip_special_tokens: true }) : "" };
}

// The loop of a model card, for either kind of encoder-decoder: a token a step.
async function greedyLoop(encoder, decoder, rows, maxLength) {
  const { input_ids, attention_mask } = inputs(rows, "int64", PAD);
  const encoded = await encoder.run({ input_ids, attention_mask });
  // What came out of a recurrent encoder as `present.*` is the first past. A Transformer's is empty before the first
  // step, and ignored: `use_cache_branch` is false.
  let past = {};
  for (const { name, shape } of decoder.inputMetadata) {
    if (!name.startsWith("past_")) continue;
    const empty = () => new ort.Tensor("float32", new Float32Array(0), [rows.length, shape[1], 0, shape[3]]);
    past[name] = encoded[present(name)] ?? empty();
  }
  const found = rows.map(() => []);
  const ended = rows.map(() => false);
  let last = rows.map(() => START);
  for (let step = 0; step < maxLength; step++) {
    const feed = {
      input_ids: new ort.Tensor("int64", BigInt64Array.from(last), [rows.length, 1]),
      encoder_attention_mask: attention_mask,
      encoder_hidden_states: encoded.last_hidden_state,
      use_cache_branch: new ort.Tensor("bool", Uint8Array.of(step > 0), [1]),
      ...past,
    };
    const outputs = await decoder.run(Object.fromEntries(decoder.inputNames.map((name) => [name, feed[name]])));
    // What comes out as `present.*` goes in as the past of the same name at the next step; the rest stays.
    past = Object.fromEntries(Object.entries(past).map(([name, value]) => [name, outputs[present(name)] ?? value]));
    last = rows.map((_, row) => {
      if (ended[row]) return PAD;
      const best = likeliest(outputs.logits, row, 0);
      found[row].push(best);
      ended[row] = BigInt(best) === END;
      return BigInt(best);
    });
    if (ended.every(Boolean)) break;
  }
  return found;
}

// "past_key_values.0.decoder.key" -> "present.0.decoder.key"
function present(name) {
  return name.replace(/^past_[a-z_]+/, "present");
}

// The loop of a model card: padded prompts, then a token a step, with a mask that grows. A recurrent model takes
// padding behind the prompt alone.
async function promptLoop(model, rows, maxLength, pad, end) {
  const width = Math.max(...rows.map((row) => row.length));
  const inFront = model.inputNames.some((name) => name.startsWith("past_key_values"));
  const fill = (row, real, value) => {
    const padding = Array(width - row.length).fill(value);
    return inFront ? [...padding, ...real] : [...real, ...padding];
  };
  let tokens = rows.map((row) => fill(row, row, pad));
  let mask = rows.map((row) => fill(row, row.map(() => 1n), 0n));
  let last = rows.map((row) => (inFront ? width : row.length) - 1);
  let past = {};
  for (const { name, shape } of model.inputMetadata) {
    if (!name.startsWith("past_")) continue;
    const sizes = [rows.length, ...shape.slice(1).map((size) => (typeof size === "number" ? size : 0))];
    past[name] = new ort.Tensor("float32", new Float32Array(sizes.reduce((left, right) => left * right)), sizes);
  }
  const matrix = (values) =>
    new ort.Tensor("int64", BigInt64Array.from(values.flat()), [values.length, values[0].length]);
  const found = rows.map(() => []);
  for (let step = 0; step < maxLength; step++) {
    const { logits, ...outputs } = await model.run({
      input_ids: matrix(tokens),
      attention_mask: matrix(mask),
      ...past,
    });
    past = Object.fromEntries(Object.keys(past).map((name) => [name, outputs[present(name)]]));
    // A row that has ended goes on with the others: `answer` drops what stands behind its end.
    tokens = rows.map((_, row) => [BigInt(likeliest(logits, row, last[row]))]);
    last = rows.map(() => 0);
    for (const [row, [token]] of tokens.entries()) found[row].push(Number(token));
    mask = mask.map((row) => [...row, 1n]);
    if (found.every((ids) => ids.includes(Number(end)))) break;
  }
  return found;
}

// The token that scores highest behind a column of a row.
function likeliest({ dims, data }, row, column) {
  const [, length, size] = dims;
  const first = (row * length + column) * size;
  const scores = data.subarray(first, first + size);
  return scores.reduce((argmax, score, id) => (score > scores[argmax] ? id : argmax), 0);
}

function openTokenizer(folder) {
  const read = (name) => JSON.parse(readFileSync(path.join(folder, name), "utf8"));
  return Object.assign(new Tokenizer(read("tokenizer.json"), read("tokenizer_config.json")), {
    maxLength: read("tokenizer_config.json").model_max_length,
  });
}

// Ids with the end token; a text that is too long for the model is cut before it.
function encode(tokenizer, text) {
  const ids = tokenizer.encode(text, { add_special_tokens: false }).ids;
  return [...ids.slice(0, tokenizer.maxLength - 1).map(BigInt), END];
}

function inputs(rows, type, pad) {
  const width = Math.max(...rows.map((row) => row.length));
  const padded = rows.flatMap((row) => [...row, ...Array(width - row.length).fill(pad)]);
  const mask = rows.flatMap((row) => Array.from({ length: width }, (_, i) => (i < row.length ? 1n : 0n)));
  const tensor = (values) =>
    new ort.Tensor(
      type,
      type === "int64" ? BigInt64Array.from(values) : Int32Array.from(values, Number),
      [rows.length, width],
    );
  return { input_ids: tensor(padded), attention_mask: tensor(mask) };
}

// Each option of a search is one number for each row.
function rowOptions(options, numRows) {
  return Object.fromEntries(
    Object.entries(options).map(([name, value]) => {
      const [type, Values] = FLOATS.has(name) ? ["float32", Float32Array] : ["int32", Int32Array];
      return [name, new ort.Tensor(type, new Values(numRows).fill(value), [numRows])];
    }),
  );
}

// A new task adds its line.
const TASKS = { seq2seq, causal_lm };

const request = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await TASKS[request.task](request)));
