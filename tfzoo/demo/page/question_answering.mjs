/** Which piece of a context answers a question, as `tfzoo.runtime.question_answering` finds it; see `encoder.mjs`. */

import { segmentRow } from "./encoder.mjs";

const NUM_SPECIAL = 3; // tokens of a window: start, and an end behind each text

/**
 * Answers a question. Returns the answer's start and end in the context, in code points, -1 for no answer, and its score,
 * the probability in its window.
 */
export async function answerQuestion({ manifest, source, forward }, [question, context]) {
  const options = manifest.decoding;
  const asked = source.encode(question).slice(0, options.max_question_length);
  const { ids, offsets } = source.encodeWithOffsets(context);
  const room = options.window_length - NUM_SPECIAL - asked.length;
  const rows = [];
  let best = { score: -Infinity };
  let noAnswer = Infinity; // in logits, of the window where it is lowest
  let noAnswerScore = 1;
  for (let start = 0; start === 0 || start < ids.length - room + options.stride; start += options.stride) {
    const row = segmentRow([asked, ids.slice(start, start + room)], source, options.window_length);
    const { start_logits, end_logits } = await forward(row);
    const first = asked.length + NUM_SPECIAL - 1; // where the context begins in the window
    const found = bestSpan(start_logits.data, end_logits.data, first, row.ids.length - 1, options.max_answer_length);
    if (found.score > best.score) best = { ...found, start: start + found.start - first, end: start + found.end - first };
    noAnswer = Math.min(noAnswer, found.noAnswer);
    noAnswerScore = Math.min(noAnswerScore, Math.exp(found.noAnswer - found.total));
    rows.push(row);
  }
  const margin = noAnswer - best.score;
  if (margin === Infinity || (options.no_answer_threshold !== null && margin > options.no_answer_threshold)) {
    return { rows, start: -1, end: -1, score: noAnswerScore };
  }
  const [[start], [, end]] = [offsets[best.start], offsets[best.end]];
  return { rows, start, end, score: Math.exp(best.score - best.total) };
}

/**
 * Finds the best span of a window's tokens from `first` on and before `behind`; of equals the one that begins, then the
 * one that ends first. Returns its first and last token, its score and that of no answer in logits, and the log of the
 * sum of the exponentials of both and of all other spans' scores.
 */
function bestSpan(starts, ends, first, behind, maxLength) {
  const noAnswer = Math.fround(starts[0] + ends[0]);
  const scores = [noAnswer];
  let best = { start: 0, end: 0, score: -Infinity };
  for (let start = first; start < behind; start++) {
    for (let end = start; end < Math.min(behind, start + maxLength); end++) {
      const score = Math.fround(starts[start] + ends[end]);
      scores.push(score);
      if (score > best.score) best = { start, end, score };
    }
  }
  const highest = Math.max(best.score, noAnswer);
  const sum = scores.reduce((total, score) => total + Math.exp(score - highest), 0);
  return { ...best, noAnswer, total: highest + Math.log(sum) };
}
