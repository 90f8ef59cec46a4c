/**
 * BERT's WordPiece, from `tokenizer.json`: the ids of `tfzoo.text`'s `WordPieceTokenizer`, whatever the text.
 *
 * What is dropped, an accent or a mark of punctuation is read off tables, as the browser's own Unicode is newer than
 * that of BERT's tokenizers. Small letters are the browser's: no letter ever gets another one.
 */

import { ACCENTS, CHINESE, DECOMPOSED, DROPPED, MARKS, PUNCTUATION } from "./word_piece_tables.mjs";

// With what each is called in a picture.
const SPECIAL = [
  ["[PAD]", "padding"],
  ["[UNK]", "unknown"],
  ["[CLS]", "start"],
  ["[SEP]", "end"],
  ["[MASK]", "mask"],
];
const UNK_SURFACE = "⁇";
const CONTINUES = "##";

const dropped = characterClass(`${DROPPED} d800-dfff`); // halves of a pair too
const whiteSpace = /\p{White_Space}/u;
const [chinese, punctuation, decomposed, accent] = [CHINESE, PUNCTUATION, DECOMPOSED, ACCENTS].map(characterClass);
const marks = Object.entries(MARKS).map(([order, ranges]) => [Number(order), characterClass(ranges)]);

/** Text cannot spell a special token. */
export class WordPieceTokenizer {
  constructor({ model, normalizer, added_tokens }) {
    this.ids = new Map(Object.entries(model.vocab));
    for (const { content, id } of added_tokens) this.ids.set(content, id);
    this.pieces = [];
    for (const [piece, id] of this.ids) this.pieces[id] = piece;
    this.special = new Map(SPECIAL.map(([token, name]) => [this.ids.get(token), name]));
    [this.padId, this.unkId, this.startId, this.endId, this.maskId] = this.special.keys();
    this.lowercase = normalizer.lowercase;
    this.maxWordLength = model.max_input_chars_per_word;
    this.longest = this.pieces.reduce((most, { length }) => Math.max(most, length), 0); // at least its characters
  }

  encode(text) {
    return this.encodeWithOffsets(text).ids;
  }

  /**
   * Returns ids, and for each [start, end], what it was made of, in code points of the text: from the first character
   * that it has anything of to the last one and the accents that are stripped off it.
   */
  encodeWithOffsets(text) {
    const pieces = splitWords(text, this.lowercase).flatMap((word) => this.#split(word));
    return { ids: pieces.map(({ id }) => id), offsets: pieces.map(({ start, end }) => [start, end]) };
  }

  /** The longest pieces that fit, from the word's start; a word that has none, or is too long, is unknown. */
  #split(word) {
    const unknown = [piece(this.unkId, word)];
    if (word.length > this.maxWordLength) return unknown;
    const found = [];
    for (let start = 0; start < word.length; ) {
      let end = Math.min(word.length, start + this.longest);
      let rest = word.slice(start, end).map(({ character }) => character);
      if (start > 0) rest = [CONTINUES, ...rest];
      while (end > start && !this.ids.has(rest.join(""))) {
        rest.pop();
        end--;
      }
      if (end === start) return unknown;
      found.push(piece(this.ids.get(rest.join("")), word.slice(start, end)));
      start = end;
    }
    return found;
  }

  decode(ids) {
    const kept = Array.from(ids, Number).filter((id) => id === this.unkId || !this.isSpecial(id));
    return kept.reduce((text, id, index) => {
      const piece = id === this.unkId ? UNK_SURFACE : (this.pieces[id] ?? UNK_SURFACE);
      if (index === 0) return piece;
      return text + (piece.startsWith(CONTINUES) ? piece.slice(CONTINUES.length) : ` ${piece}`);
    }, "");
  }

  isSpecial(id) {
    return this.special.has(id);
  }

  /** What one id is called in a picture. */
  label(id) {
    return this.special.get(id) ?? this.pieces[id];
  }
}

function piece(id, characters) {
  return { id, start: characters[0].start, end: characters.at(-1).end };
}

/** Cuts text into words of {character, start, end}: cleaned, a mark of punctuation or a Chinese character for itself. */
export function splitWords(text, lowercase) {
  const words = [];
  let open = false; // whether the last word goes on
  for (const one of normalized(text, lowercase)) {
    const alone = one.alone || punctuation.test(one.character);
    if (one.character !== " ") {
      if (alone || !open) words.push([]);
      words.at(-1).push(one);
    }
    open = one.character !== " " && !alone;
  }
  return words;
}

/** What counts of a text: characters, each with what it was made of; white space is " ". */
function normalized(text, lowercase) {
  const made = [];
  for (const [start, character] of [...text].entries()) {
    if (dropped.test(character)) continue;
    const one = { character, start, end: start + 1, alone: chinese.test(character), order: 0 };
    if (whiteSpace.test(character)) {
      made.push({ ...one, character: " " });
    } else if (!lowercase) {
      made.push(one);
    } else {
      const parts = [...(decomposed.test(character) ? character.normalize("NFD") : character)];
      const kept = parts.filter((part) => !accent.test(part));
      made.push(...kept.map((part) => ({ ...one, character: part.toLowerCase(), order: orderOf(part) })));
      if (kept.length) continue;
      for (let index = made.length - 1; made[index]?.end === start; index--) made[index].end++;
      if (parts.some(separates)) made.push({ ...one, character: "" });
    }
  }
  putInOrder(made);
  return made.filter(({ character }) => character);
}

/** Puts runs of combining marks in Unicode's canonical order; what they were made of stays where it is. */
function putInOrder(made) {
  for (let last = 1; last < made.length; last++) {
    for (let index = last; made[index].order > 0 && made[index - 1]?.order > made[index].order; index--) {
      const [left, right] = [made[index - 1], made[index]];
      [left.character, right.character] = [right.character, left.character];
      [left.order, right.order] = [right.order, left.order];
    }
  }
}

/** Unicode's combining class of what is no accent. */
function orderOf(character) {
  return marks.find(([, characters]) => characters.test(character))?.[0] ?? 0;
}

/** Whether other marks keep their places before and behind this one: tried with the highest and the lowest class. */
function separates(mark) {
  const probe = `\u0345${mark}\u0334`;
  return probe.normalize("NFD") === probe;
}

/** "41-5a 5f" -> the expression that finds one of these code points. */
function characterClass(ranges) {
  return new RegExp(`[${ranges.replace(/[\da-f]+/g, "\\u{$&}").replaceAll(" ", "")}]`, "u");
}
