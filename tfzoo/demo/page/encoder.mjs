/**
 * What an encoder with the head of a task answers, as `tfzoo.runtime.encoder` does; the graph is run by who asks.
 *
 * Each function takes a model {manifest, source, forward} and texts. `forward` takes a row {ids, segments} and gives the
 * graph's outputs by name, {data, dims} each.
 */

const MASK = "[MASK]";
const NUM_CANDIDATES = 5; // for each mask
const THRESHOLD = 0.5; // from which a label of several counts
const WORD = /[^ \t\n\v\f\r]+/g; // what ASCII white space separates

/**
 * Classifies a text, or a pair. Returns the classes, best first, {label, score}, and those that were chosen; of a
 * regression the value.
 */
export async function classify({ manifest, source, forward }, texts) {
  const row = segmentRow(texts.map((text) => source.encode(text)), source, manifest.max_length);
  const { data } = (await forward(row)).logits;
  const { labels, problem } = manifest.head;
  if (problem === "regression") return { row, value: data[0] };
  const scores = problem === "multi_label" ? Array.from(data, sigmoid) : softmax(data);
  const classes = order(data).map((index) => ({ label: labels[index], score: scores[index] }));
  const chosen = problem === "multi_label" ? classes.filter(({ score }) => score >= THRESHOLD) : classes.slice(0, 1);
  return { row, classes, chosen };
}

/** Labels words. Returns {word, start, label, score} each; a word behind the model's last position has no label. */
export async function label({ manifest, source, forward }, text) {
  const pieces = [];
  const words = Array.from(text.matchAll(WORD), ({ 0: word, index }) => {
    const ids = source.encode(word);
    const place = 1 + pieces.length; // the start token is before it
    pieces.push(...ids);
    return { word, start: index, place: ids.length && place < manifest.max_length - 1 ? place : -1 };
  });
  const row = segmentRow([pieces], source, manifest.max_length);
  const logits = rows((await forward(row)).logits);
  const labelled = words.map(({ place, ...word }) => {
    if (place < 0) return word;
    const scores = softmax(logits[place]);
    const [best] = order(logits[place]);
    return { ...word, label: manifest.head.labels[best], score: scores[best] };
  });
  return { row, words: labelled };
}

/**
 * Fills masks. Returns the text with the likeliest piece for each, and for each mask the likeliest ones, {id,
 * probability}; a mask behind the model's last position stays.
 */
export async function fill({ manifest, source, forward }, text) {
  const [before, ...parts] = text.split(MASK);
  const ids = [...source.encode(before), ...parts.flatMap((part) => [source.maskId, ...source.encode(part)])];
  const row = segmentRow([ids], source, manifest.max_length);
  const logits = rows((await forward(row)).logits).filter((_, index) => row.ids[index] === source.maskId);
  const masks = logits.map((one) => {
    const scores = softmax(one);
    return order(one)
      .slice(0, NUM_CANDIDATES)
      .map((id) => ({ id, probability: scores[id] }));
  });
  const filled = parts.map((part, index) => {
    const piece = index < masks.length ? source.decode([masks[index][0].id]).replace(/^##/, "") : MASK;
    return piece + part;
  });
  return { row, text: before + filled.join(""), masks };
}

/** Compares two texts. Returns their vectors, of length 1, and the cosine of the angle between them. */
export async function compare({ manifest, source, forward }, texts) {
  const found = texts.map((text) => segmentRow([source.encode(text)], source, manifest.max_length));
  const vectors = [];
  for (const row of found) vectors.push((await forward(row)).sentence_embedding.data);
  return { rows: found, vectors, cosine: vectors[0].reduce((sum, value, index) => sum + value * vectors[1][index], 0) };
}

/** What an encoder reads of one or two texts; what is too long loses its end, of two the longer one first. */
export function segmentRow(parts, { startId, endId }, maxLength) {
  const room = maxLength - 1 - parts.length;
  let kept = [room];
  if (parts.length === 2) {
    const [first, second] = parts.map(({ length }) => length);
    const shorter = Math.min(first, second, Math.floor(room / 2));
    kept = first > second ? [room - shorter, shorter] : [shorter, room - shorter];
  }
  const texts = parts.map((ids, index) => [...ids.slice(0, kept[index]), endId]);
  return { ids: [startId, ...texts.flat()], segments: [0, ...texts.flatMap((ids, index) => ids.map(() => index))] };
}

/** (1, T, V) -> T rows of V. */
function rows({ data, dims }) {
  const size = dims.at(-1);
  return Array.from({ length: data.length / size }, (_, index) => data.subarray(index * size, (index + 1) * size));
}

/** Places of the values, the highest first. */
function order(values) {
  return [...values.keys()].sort((left, right) => values[right] - values[left]);
}

export function softmax(logits) {
  const highest = logits.reduce((left, right) => Math.max(left, right));
  const weights = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = weights.reduce((left, right) => left + right);
  return weights.map((weight) => weight / sum);
}

function sigmoid(logit) {
  return 1 / (1 + Math.exp(-logit));
}
