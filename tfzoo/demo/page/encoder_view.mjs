/** How the page asks an encoder, and shows what it says; see `VIEWS` in page.mjs. */

import { row } from "./artifact.mjs";
import { candidate, make, percent, tokenBoxes } from "./draw.mjs";
import { classify, compare, fill, label } from "./encoder.mjs";
import { answerQuestion } from "./question_answering.mjs";

const MODEL = "onnx/model.onnx";
const NUM_SHOWN = 6; // numbers of a vector
const GOLDEN_ANGLE = 137.508; // degrees: neighbours of any number of hues are far apart

const PAIR = ["First text", "Second text"];

export const ENCODER_VIEWS = {
  text_classification: {
    graphs: [MODEL],
    fields: ({ head }) => (head.num_texts === 2 ? PAIR : ["Text"]),
    wording: { answer: "Classify" },
    answer: showClasses,
  },
  token_classification: { graphs: [MODEL], wording: { answer: "Label" }, answer: showWords },
  question_answering: { graphs: [MODEL], fields: () => ["Question", "Context"], answer: showAnswer },
  fill_mask: {
    graphs: [MODEL],
    fields: () => ["Text with [MASK] in it"],
    wording: { answer: "Fill" },
    answer: showFilled,
  },
  text_embedding: {
    graphs: [MODEL],
    fields: () => PAIR,
    examples: (texts) => texts.slice(1).map((text, index) => [texts[index], text]),
    wording: { answer: "Compare", "result-heading": "Cosine similarity" },
    answer: showCosine,
  },
};

/** The model with its graph as what `encoder.mjs` calls. */
function runnable(model) {
  const forward = ({ ids, segments }) =>
    model.sessions[MODEL].run({
      input_ids: row(ids, "int64"),
      attention_mask: row(ids.map(() => 1), "int64"),
      token_type_ids: row(segments, "int64"),
    });
  return { ...model, forward };
}

/** Awaits an answer, and says how long it took. */
async function timed(answer) {
  const start = performance.now();
  const found = await answer;
  const rows = found.rows ?? [found.row];
  const count = rows.reduce((sum, { ids }) => sum + ids.length, 0);
  return [found, `${count} tokens in ${Math.round(performance.now() - start)} ms`];
}

async function showClasses(model, texts) {
  const [found, details] = await timed(classify(runnable(model), texts));
  if (!found.classes) return { output: found.value.toPrecision(4), details };
  const bars = found.classes.map((one) => candidate(one.label, one.score, { chosen: found.chosen.includes(one) }));
  return {
    output: found.chosen.map((one) => one.label).join(", ") || make("span", "none", "no label"),
    details,
    picture: {
      heading: "Probability of each label",
      hint: model.manifest.head.problem === "multi_label" ? "Each for itself: several labels may hold at once." : "",
      content: [make("ul", "bars", bars)],
    },
  };
}

async function showWords(model, [text]) {
  const [{ words }, details] = await timed(label(runnable(model), text));
  const kinds = [...new Set(model.manifest.head.labels.map(kindOf))].filter((kind) => kind !== "O");
  const colour = (made, kind) => {
    made.style.setProperty("--hue", GOLDEN_ANGLE * kinds.indexOf(kind));
    return made;
  };
  const output = [];
  let end = 0;
  for (const { word, start, label, score } of words) {
    output.push(text.slice(end, start));
    end = start + word.length;
    if (label === undefined || label === "O") {
      output.push(word);
      continue;
    }
    const made = colour(make("span", "word", [word, make("small", "", label)]), kindOf(label));
    made.title = `${label} ${percent(score)}`;
    output.push(made);
  }
  const counts = kinds.map((kind) => words.filter(({ label }) => label && kindOf(label) === kind).length);
  const legend = kinds.map((kind, index) =>
    make("li", "", [colour(make("span", "word", kind), kind), ` ${counts[index]} ${plural(counts[index], "word")}`]),
  );
  return {
    output: [make("span", "passage", [...output, text.slice(end)])],
    details,
    picture: { heading: "Labels", content: [make("ul", "legend", legend)] },
  };
}

/** What a label is of, whether it begins or goes on: PER of B-PER. */
function kindOf(label) {
  return label.replace(/^[BIES]-/, "");
}

function plural(count, word) {
  return count === 1 ? word : `${word}s`;
}

async function showAnswer(model, texts) {
  const [{ start, end, score, rows }, details] = await timed(answerQuestion(runnable(model), texts));
  const windows = `${rows.length} ${plural(rows.length, "window")}`;
  const context = [...texts[1]];
  const [before, found, behind] = [context.slice(0, start), context.slice(start, end), context.slice(end)].map((part) =>
    part.join(""),
  );
  return {
    output: start < 0 ? make("span", "none", "no answer") : found,
    details: `${details}, ${windows}; probability ${percent(score)}`,
    picture: {
      heading: "In the context",
      content: [make("p", "passage", start < 0 ? texts[1] : [before, make("mark", "", found), behind])],
    },
  };
}

async function showFilled(model, [text]) {
  const [{ text: output, masks }, details] = await timed(fill(runnable(model), text));
  if (!masks.length) throw new Error("Put [MASK] where a piece is missing.");
  return {
    output,
    details,
    picture: {
      heading: "Likeliest pieces for each mask",
      hint: "A piece that goes on a word begins with ##.",
      content: [tokenBoxes(model.source, masks)],
    },
  };
}

async function showCosine(model, texts) {
  const [{ cosine, vectors }, details] = await timed(compare(runnable(model), texts));
  const shown = vectors.map((vector) => {
    const numbers = Array.from(vector.slice(0, NUM_SHOWN), (number) => number.toFixed(4));
    return make("li", "", `${numbers.join(", ")}${vector.length > NUM_SHOWN ? ", ..." : ""}`);
  });
  return {
    output: cosine.toFixed(3),
    details,
    picture: {
      heading: "Vectors",
      hint: `The first of ${vectors[0].length} numbers that each text becomes. 1 = the same direction, 0 = unrelated.`,
      content: [make("ol", "vectors", shown)],
    },
  };
}
