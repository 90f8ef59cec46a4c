/** How the page asks a model that generates, and shows what it says; see `VIEWS` in page.mjs. */

import { make, tokenBoxes } from "./draw.mjs";
import { probabilities, search, TASKS } from "./generation.mjs";

export const GENERATION_VIEWS = {
  seq2seq: {
    graphs: TASKS.seq2seq.graphs,
    options: ["num_beams", "max_length", "length_penalty"],
    answer,
  },
  causal_lm: {
    graphs: TASKS.causal_lm.graphs,
    fields: () => ["Prompt"],
    wording: { answer: "Continue", "result-heading": "Continuation" },
    options: ["temperature", "seed", "max_length"],
    takesNothing: true, // it goes on from an empty text too
    answer,
  },
};

async function answer(model, [text], options) {
  const start = performance.now();
  const [best, ...others] = await search(model, text, options);
  const searched = performance.now();
  const found = await probabilities(model, text, best.ids, options);
  const done = performance.now();
  return {
    output: best.text,
    details:
      `${best.ids.length} tokens in ${Math.round(searched - start)} ms, their probabilities in ` +
      `${Math.round(done - searched)} ms; score ${best.score.toFixed(3)} nats`,
    others,
    picture: {
      heading: "Probability of each token",
      hint: "Given the text and the tokens before it: the token that was chosen, then the likeliest others.",
      content: [tokenBoxes(model.target, found)],
    },
  };
}
