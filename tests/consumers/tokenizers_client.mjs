// tokenizer.json read by transformers.js. Request and answer: see tokenizers_client.py.
import { readFileSync } from "node:fs";
import path from "node:path";
import { AutoTokenizer, env } from "@huggingface/transformers";

env.allowRemoteModels = false;
const answers = [];
for (const { folder, texts, sequences } of JSON.parse(readFileSync(0, "utf8")).tokenizers) {
  env.localModelPath = path.dirname(folder) + path.sep;
  const tokenizer = await AutoTokenizer.from_pretrained(path.basename(folder));
  answers.push({
    ids: texts.map((text) => tokenizer.encode(text, { add_special_tokens: false })),
    // It refuses to decode an empty sequence.
    texts: sequences.map((ids) => (ids.length ? tokenizer.decode(ids, { skip_special_tokens: true }) : "")),
  });
}
console.log(JSON.stringify(answers));
