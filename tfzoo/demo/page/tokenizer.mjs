/**
 * The tokenizers of an artifact, read from its own files: `spiece.model`, `vocab.json` with `merges.txt`, `vocab.json`
 * with `tokenizer_config.json`, or BERT's `tokenizer.json`.
 *
 * Ids and text equal those of `tfzoo.text`, whatever the text. So SentencePiece's model is read itself and not its
 * `tokenizer.json`, which says less. What this file does not compute exactly it refuses.
 */

import { BytePairTokenizer } from "./byte_pair.mjs";
import { WordPieceTokenizer } from "./word_piece.mjs";

const PAD_ID = 0;
const UNK_ID = 1;
const START_ID = 2;
const END_ID = 3;
const NUM_SPECIAL = 4;
const UNK_SURFACE = "⁇";

const SPACE = "▁"; // as SentencePiece writes it inside a piece
const UNK_PENALTY = 10; // nats below the least likely piece

/**
 * Loads the tokenizers of both sides; the same object twice when they share a vocabulary.
 *
 * @param {string[]} paths the artifact's files.
 * @param {(path: string) => Promise<Uint8Array>} read gives the content of one of them.
 */
export async function loadPair(paths, read) {
  if (paths.some((path) => path.startsWith("source/"))) {
    return { source: await load("source/", paths, read), target: await load("target/", paths, read) };
  }
  const shared = await load("", paths, read);
  return { source: shared, target: shared };
}

async function load(directory, paths, read) {
  if (paths.includes(`${directory}spiece.model`)) {
    return new SentencePieceTokenizer(await read(`${directory}spiece.model`));
  }
  const readText = async (name) => new TextDecoder().decode(await read(directory + name));
  const readJson = async (name) => JSON.parse(await readText(name));
  if (paths.includes(`${directory}merges.txt`)) {
    const lines = (await readText("merges.txt")).split("\n").filter((line) => line);
    return new BytePairTokenizer(await readJson("vocab.json"), lines.slice(1)); // the first one is the version
  }
  if (paths.includes(`${directory}vocab.json`)) {
    const { separator } = await readJson("tokenizer_config.json");
    if (separator === "" || separator === " ") return new SymbolTokenizer(await readJson("vocab.json"), separator);
  }
  if (paths.includes(`${directory}vocab.txt`)) return new WordPieceTokenizer(await readJson("tokenizer.json"));
  const known = "SentencePiece, byte-pair, WordPiece, character and symbol tokenizers";
  throw new Error(`This page reads ${known}; this artifact has another kind.`);
}

/** One id for each symbol: a character (separator "") or what stands between ASCII white space (separator " "). */
export class SymbolTokenizer {
  constructor(vocabulary, separator) {
    const symbols = Object.entries(vocabulary).filter(([, id]) => id >= NUM_SPECIAL);
    this.ids = new Map(symbols);
    this.separator = separator;
    this.startId = START_ID;
    this.endId = END_ID;
    this.surfaces = ["", UNK_SURFACE, "", ""];
    for (const [symbol, id] of symbols) this.surfaces[id] = symbol;
  }

  encode(text) {
    const symbols = this.separator ? text.split(/[ \t\n\v\f\r]+/).filter((symbol) => symbol) : [...text];
    return symbols.map((symbol) => this.ids.get(symbol) ?? UNK_ID);
  }

  decode(ids) {
    return textIds(ids, this.surfaces.length)
      .map((id) => this.surfaces[id])
      .join(this.separator);
  }

  isSpecial(id) {
    return id < NUM_SPECIAL;
  }

  /** What one id is called in a picture. */
  label(id) {
    return specialLabel(id) ?? this.surfaces[id].replace(" ", SPACE);
  }
}

/** A unigram model (Kudo, 2018): the likeliest segmentation of the normalized text. */
export class SentencePieceTokenizer {
  constructor(bytes) {
    const model = readModel(bytes);
    this.startId = START_ID;
    this.endId = END_ID;
    this.pieces = model.pieces.map(({ piece }) => piece);
    this.ids = new Map();
    this.scores = model.pieces.map(({ score }) => score);
    this.longest = 0; // code points
    let lowest = Infinity;
    for (const [id, { piece, score, type }] of model.pieces.entries()) {
      if (type !== NORMAL) continue;
      this.ids.set(piece, id);
      this.longest = Math.max(this.longest, [...piece].length);
      lowest = Math.min(lowest, score);
    }
    this.unknownScore = Math.fround(lowest - UNK_PENALTY);
    this.normalizer = new Normalizer(model.normalizer);
  }

  encode(text) {
    const ids = this.#search([...this.normalizer.normalize(text)]);
    return ids.filter((id, index) => id !== UNK_ID || ids[index - 1] !== UNK_ID); // a run of unknowns is one
  }

  /** Viterbi's search. Sums are float32 and the first of two equals wins, as in SentencePiece. */
  #search(characters) {
    const best = Array.from({ length: characters.length + 1 }, () => ({ score: 0, start: -1, id: UNK_ID }));
    for (let start = 0; start < characters.length; start++) {
      const offer = (end, id, score) => {
        const total = Math.fround(best[start].score + score);
        if (best[end].start < 0 || total > best[end].score) best[end] = { score: total, start, id };
      };
      let piece = "";
      for (let end = start + 1; end <= Math.min(characters.length, start + this.longest); end++) {
        piece += characters[end - 1];
        const id = this.ids.get(piece);
        if (id !== undefined) offer(end, id, this.scores[id]);
      }
      if (!this.ids.has(characters[start])) offer(start + 1, UNK_ID, this.unknownScore);
    }
    const ids = [];
    for (let end = characters.length; end > 0; end = best[end].start) ids.push(best[end].id);
    return ids.reverse();
  }

  decode(ids) {
    const { addDummyPrefix, removeExtraWhitespaces } = this.normalizer;
    let text = "";
    let dropsSpace = addDummyPrefix || removeExtraWhitespaces;
    for (const id of textIds(ids, this.pieces.length)) {
      let piece = id === UNK_ID ? ` ${UNK_SURFACE} ` : this.pieces[id];
      if (dropsSpace && piece.startsWith(SPACE)) {
        piece = piece.slice(SPACE.length);
        dropsSpace = removeExtraWhitespaces; // then every space at the start goes, else the first one
      }
      text += piece.replaceAll(SPACE, " ");
      dropsSpace &&= !text;
    }
    return text;
  }

  isSpecial(id) {
    return id < NUM_SPECIAL;
  }

  /** What one id is called in a picture. */
  label(id) {
    return specialLabel(id) ?? this.pieces[id];
  }
}

function specialLabel(id) {
  return ["padding", "unknown", "start", "end"][id];
}

/** Drops padding, start and end; an id out of range is unknown. */
function textIds(ids, size) {
  const kept = Array.from(ids, Number).filter((id) => id !== PAD_ID && id !== START_ID && id !== END_ID);
  return kept.map((id) => (id >= 0 && id < size ? id : UNK_ID));
}

/** SentencePiece's normalizer: its replacement rules, then its rules for spaces. */
class Normalizer {
  constructor({ charsmap, addDummyPrefix, removeExtraWhitespaces }) {
    this.addDummyPrefix = addDummyPrefix;
    this.removeExtraWhitespaces = removeExtraWhitespaces;
    if (charsmap.length) {
      const size = new DataView(charsmap.buffer, charsmap.byteOffset).getUint32(0, true);
      this.units = new Uint32Array(charsmap.slice(4, 4 + size).buffer);
      this.replacements = charsmap.subarray(4 + size);
    }
  }

  normalize(text) {
    const chunks = this.#chunks(new TextEncoder().encode(text));
    let first = 0;
    if (this.removeExtraWhitespaces) while (chunks[first] === " ") first++;
    if (first === chunks.length) return "";
    let normalized = this.addDummyPrefix ? SPACE : "";
    let afterSpace = this.removeExtraWhitespaces;
    for (const chunk of chunks.slice(first)) {
      const kept = afterSpace ? chunk.replace(/^ +/, "") : chunk;
      normalized += kept.replaceAll(" ", SPACE);
      if (kept) afterSpace = kept.endsWith(" ");
      if (!this.removeExtraWhitespaces) afterSpace = false;
    }
    return this.removeExtraWhitespaces ? normalized.replace(/▁+$/, "") : normalized;
  }

  /** Splits UTF-8 into the longest stretches that a rule replaces, and single characters. */
  #chunks(bytes) {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const chunks = [];
    for (let start = 0; start < bytes.length; ) {
      const rule = this.units ? this.#longestRule(bytes, start) : null;
      if (rule) {
        const end = this.replacements.indexOf(0, rule.offset);
        chunks.push(decoder.decode(this.replacements.subarray(rule.offset, end)));
        start += rule.length;
      } else {
        const length = bytes[start] < 0x80 ? 1 : bytes[start] < 0xe0 ? 2 : bytes[start] < 0xf0 ? 3 : 4;
        chunks.push(decoder.decode(bytes.subarray(start, start + length)));
        start += length;
      }
    }
    return chunks;
  }

  /** Walks the rules' double-array trie (darts-clone) along the bytes from `start`. */
  #longestRule(bytes, start) {
    let longest = null;
    let position = trieOffset(this.units[0]);
    for (let index = start; index < bytes.length; index++) {
      position ^= bytes[index];
      const unit = this.units[position];
      if ((unit & 0x800000ff) >>> 0 !== bytes[index]) break;
      position ^= trieOffset(unit);
      if (unit & 0x100) longest = { offset: this.units[position] & 0x7fffffff, length: index - start + 1 };
    }
    return longest;
  }
}

function trieOffset(unit) {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

// Numbers of sentencepiece_model.proto.
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const UNIGRAM = 1;

/** Reads what matters here of a serialized ModelProto. */
function readModel(bytes) {
  const pieces = [];
  let trainer = new Map();
  let normalizer = new Map();
  let denormalizer = new Map();
  for (const [number, value] of fields(bytes)) {
    if (number === 1) {
      const piece = new Map(fields(value));
      const score = piece.get(2);
      pieces.push({
        piece: new TextDecoder("utf-8", { ignoreBOM: true }).decode(piece.get(1)),
        score: score ? new DataView(score.buffer, score.byteOffset).getFloat32(0, true) : 0,
        type: piece.get(3) ?? NORMAL,
      });
    }
    if (number === 2) trainer = new Map(fields(value));
    if (number === 3) normalizer = new Map(fields(value));
    if (number === 5) denormalizer = new Map(fields(value));
  }
  const refuse = (what) => {
    throw new Error(`This page does not read SentencePiece models ${what}, as this artifact's is.`);
  };
  if ((trainer.get(3) ?? UNIGRAM) !== UNIGRAM) refuse("of another type than unigram");
  if (trainer.get(35)) refuse("that fall back to bytes");
  if (trainer.get(24)) refuse("with white space behind the word");
  if ((normalizer.get(5) ?? 1) !== 1) refuse("that keep spaces unescaped");
  if (denormalizer.get(2)?.length) refuse("with a denormalizer");
  if (trainer.get(44) && new TextDecoder().decode(trainer.get(44)) !== ` ${UNK_SURFACE} `) {
    refuse("with a text of their own for unknown pieces");
  }
  if (pieces.some(({ type }) => ![NORMAL, UNKNOWN, CONTROL].includes(type))) refuse("with user-defined pieces");
  return {
    pieces,
    normalizer: {
      charsmap: normalizer.get(2) ?? new Uint8Array(),
      addDummyPrefix: (normalizer.get(3) ?? 1) === 1,
      removeExtraWhitespaces: (normalizer.get(4) ?? 1) === 1,
    },
  };
}

/** Yields [number, value] of a protocol buffer message: a number for a varint, else the bytes. */
function* fields(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[position++];
      if (byte === undefined) throw new Error("This artifact's spiece.model is damaged; export the model again.");
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  while (position < bytes.length) {
    const key = varint();
    const type = key % 8;
    if (type === 0) {
      yield [Math.floor(key / 8), varint()];
      continue;
    }
    const length = type === 2 ? varint() : type === 1 ? 8 : 4;
    yield [Math.floor(key / 8), bytes.subarray(position, position + length)];
    position += length;
  }
}
