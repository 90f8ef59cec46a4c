// An artifact opened by ONNX Runtime alone, with tokenizer.json read by @huggingface/tokenizers.
//
// Request: `artifact`, `task`, `texts`, `searches` (name -> options of generate.onnx), `max_length` (tokens).
// Answer: each search by generate.onnx, and "loop": the greedy loop over encoder and decoder that a client writes to
// show tokens as they come.
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-node";

const [PAD, START, END] = [0n, 2n, 3n]; // pad_token_id, decoder_start_token_id, eos_token_id of config.json

async function seq2seq({ artifact, texts, searches, max_length }) {
  const side = (name) => (existsSync(path.join(artifact, "tokenizer.json")) ? artifact : path.join(artifact, name));
  const source = openTokenizer(side("source"));
  const target = openTokenizer(side("target"));
  const rows = texts.map((text) => encode(source, text));
  const open = (name) => ort.InferenceSession.create(path.join(artifact, "onnx", name));

  const answer = (ids) => {
    const end = ids.indexOf(Number(END));
    const token_ids = end < 0 ? ids : ids.slice(0, end + 1);
    // The package refuses to decode an empty sequence; one of special tokens alone is no text either.
    return { token_ids, text: token_ids.length ? target.decode(token_ids, { skip_special_tokens: true }) : "" };
  };
  const answers = {};
  const generate = await open("generate.onnx");
  for (const [search, options] of Object.entries(searches)) {
    const found = await generate.run({ ...inputs(rows, "int32"), ...rowOptions(options, rows.length) });
    const [batch, width, length] = found.sequences.dims;
    const ids = Array.from(found.sequences.data);
    answers[search] = Array.from({ length: batch }, (_, row) =>
      Array.from({ length: width }, (_, rank) => answer(ids.slice((row * width + rank) * length).slice(0, length))),
    );
  }
  const [encoder, decoder] = [await open("encoder_model.onnx"), await open("decoder_model_merged.onnx")];
  answers.loop = (await greedyLoop(encoder, decoder, rows, max_length)).map((ids) => [answer(ids)]);
  return answers;
}

async function greedyLoop(encoder, decoder, rows, maxLength) {
  const { input_ids, attention_mask } = inputs(rows, "int64");
  const { last_hidden_state } = await encoder.run({ input_ids, attention_mask });
  // Before the first step every past is empty, and the decoder ignores it: `use_cache_branch` is false.
  let past = {};
  for (const { name, shape } of decoder.inputMetadata) {
    if (name.startsWith("past_key_values.")) {
      past[name] = new ort.Tensor("float32", new Float32Array(0), [rows.length, shape[1], 0, shape[3]]);
    }
  }
  const found = rows.map(() => []);
  const ended = rows.map(() => false);
  let last = rows.map(() => START);
  for (let step = 0; step < maxLength; step++) {
    const { logits, ...present } = await decoder.run({
      input_ids: new ort.Tensor("int64", BigInt64Array.from(last), [rows.length, 1]),
      encoder_attention_mask: attention_mask,
      encoder_hidden_states: last_hidden_state,
      use_cache_branch: new ort.Tensor("bool", Uint8Array.of(step > 0), [1]),
      ...past,
    });
    // What comes out as `present.*` goes in as `past_key_values.*` at the next step.
    past = Object.fromEntries(
      Object.entries(present).map(([name, value]) => [name.replace("present", "past_key_values"), value]),
    );
    const size = logits.dims[2];
    last = rows.map((_, row) => {
      if (ended[row]) return PAD;
      const scores = logits.data.subarray(row * size, (row + 1) * size);
      const best = scores.reduce((argmax, score, id) => (score > scores[argmax] ? id : argmax), 0);
      found[row].push(best);
      ended[row] = BigInt(best) === END;
      return BigInt(best);
    });
    if (ended.every(Boolean)) break;
  }
  return found;
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

function inputs(rows, type) {
  const width = Math.max(...rows.map((row) => row.length));
  const padded = rows.flatMap((row) => [...row, ...Array(width - row.length).fill(PAD)]);
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
  const isFloat = { length_penalty: true, temperature: true, top_p: true };
  return Object.fromEntries(
    Object.entries(options).map(([name, value]) => {
      const Values = isFloat[name] ? Float32Array : Int32Array;
      return [name, new ort.Tensor(isFloat[name] ? "float32" : "int32", new Values(numRows).fill(value), [numRows])];
    }),
  );
}

// A new task adds its line.
const TASKS = { seq2seq };

const request = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await TASKS[request.task](request)));
