// Reads {directory, manifest, tables, texts} from standard input; writes what the page's encoders answer. In place of a
// graph three tables are added up, numbers by token id, by position and by segment.

import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";

const [directoryOfModules] = process.argv.slice(2);
const { classify, compare, fill, label } = await import(`${directoryOfModules}/encoder.mjs`);
const { answerQuestion } = await import(`${directoryOfModules}/question_answering.mjs`);
const { WordPieceTokenizer } = await import(`${directoryOfModules}/word_piece.mjs`);
const ANSWERS = {
  text_classification: classify,
  token_classification: label,
  fill_mask: fill,
  text_embedding: compare,
  question_answering: answerQuestion,
};

const { directory, manifest, tables, texts } = JSON.parse(await readAll(process.stdin));
const source = new WordPieceTokenizer(JSON.parse(await readFile(`${directory}/tokenizer.json`)));
const size = tables.token[0].length;

async function forward({ ids, segments }) {
  const rows = ids.map((id, at) =>
    tables.token[id].map((number, index) => number + tables.position[at][index] + tables.segment[segments[at]][index]),
  );
  const sums = Array.from({ length: size }, (_, index) => rows.reduce((sum, row) => sum + row[index], 0));
  const column = (index) => ({ data: Float32Array.from(rows, (row) => row[index]), dims: [1, ids.length] });
  switch (manifest.task) {
    case "text_classification":
      return { logits: { data: Float32Array.from(sums), dims: [1, size] } };
    case "text_embedding":
      return { sentence_embedding: { data: Float32Array.from(sums, (sum) => sum / Math.hypot(...sums)), dims: [1, size] } };
    case "question_answering":
      rows[0] = rows[0].map((number, index) => number + tables.token[ids.at(-2)][index]); // no answer, by window
      return { start_logits: column(0), end_logits: column(1) };
    default:
      return { logits: { data: Float32Array.from(rows.flat()), dims: [1, ids.length, size] } };
  }
}

const found = [];
for (const one of texts) found.push(await ANSWERS[manifest.task]({ manifest, source, forward }, one));
const plain = (key, value) => (value instanceof Float32Array ? Array.from(value) : value);
process.stdout.write(JSON.stringify(found, plain));
