// An artifact opened by transformers.js, as its documentation says. Request: see optimum_client.py.
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { AutoModelForSeq2SeqLM, AutoTokenizer, env, pipeline } from "@huggingface/transformers";

env.allowRemoteModels = false;

// Search name -> for each text its token ids and their text; a pipeline's texts under its task's name.
async function seq2seq({ artifact, texts, searches }) {
  env.localModelPath = path.dirname(artifact) + path.sep;
  const name = path.basename(artifact);
  const model = await AutoModelForSeq2SeqLM.from_pretrained(name, { dtype: "fp32" });
  const shared = existsSync(path.join(artifact, "tokenizer.json"));
  const source = await AutoTokenizer.from_pretrained(shared ? name : `${name}/source`);
  const target = shared ? source : await AutoTokenizer.from_pretrained(`${name}/target`);
  const inputs = source(texts, { padding: true, truncation: true });
  const answers = { source_ids: inputs.input_ids.tolist().map((row) => row.map(Number)) };
  for (const [search, options] of Object.entries(searches)) {
    const found = (await model.generate({ ...inputs, ...options })).tolist();
    // Of a batch, a row that has ended goes on until the last one has.
    const end = BigInt(model.config.eos_token_id);
    answers[search] = found.map((ids) => {
      const length = ids.indexOf(end) < 0 ? ids.length : ids.indexOf(end) + 1;
      const text = target.decode(ids.slice(0, length), { skip_special_tokens: true });
      return [{ token_ids: ids.slice(1, length).map(Number), text }];
    });
  }
  if (shared) {
    for (const [task, key] of [["text2text-generation", "generated_text"], ["translation", "translation_text"]]) {
      const answer = await pipeline(task, name, { dtype: "fp32" });
      answers[task] = [];
      for (const text of texts) {
        const [one] = await answer(text, searches.greedy);
        answers[task].push(one[key]);
      }
    }
  }
  return answers;
}

// Search name -> for each prompt the text behind it; "batch" is all prompts at once.
async function causal_lm({ artifact, texts, searches }) {
  env.localModelPath = path.dirname(artifact) + path.sep;
  const complete = await pipeline("text-generation", path.basename(artifact), { dtype: "fp32" });
  const behind = { return_full_text: false };
  const answers = {};
  for (const [search, options] of Object.entries(searches)) {
    answers[search] = [];
    for (const text of texts) {
      const [one] = await complete(text, { ...options, ...behind });
      answers[search].push(one.generated_text);
    }
  }
  const batch = await complete(texts, { ...searches.greedy, ...behind });
  return { ...answers, batch: batch.map(([one]) => one.generated_text) };
}

// What the pipeline of an encoder's task gives for each text, alone; `options` are of the call.
async function encoder({ artifact, pipeline: task, texts, options }) {
  env.localModelPath = path.dirname(artifact) + path.sep;
  const ask = await pipeline(task, path.basename(artifact), { dtype: "fp32" });
  const answers = [];
  for (const text of texts) {
    const found = Array.isArray(text) ? await ask(...text, options) : await ask(text, options);
    answers.push(found.tolist ? found.tolist()[0] : found);
  }
  return answers;
}

// A new task adds its line.
const TASKS = { seq2seq, causal_lm, encoder };

const request = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await TASKS[request.task](request)));
