/** GPT-2's byte-level byte-pair encoding, from `vocab.json` and `merges.txt`: the ids and the text of `tfzoo.text`. */

const END_OF_TEXT = "<|endoftext|>";
const REPLACEMENT = [0xef, 0xbf, 0xbd]; // U+FFFD in UTF-8
const NONE = 0xffffffff; // no merge joins the two

// White space by its Unicode property: what \s adds to it (U+FEFF), and leaves out (U+0085), GPT-2's words do not.
const WORDS = new RegExp(
  "'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
    "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
  "gu",
);

/** Any text has ids, and its ids give the text back; padding, start and end are one id. */
export class BytePairTokenizer {
  constructor(vocabulary, merges) {
    const bytes = byteCharacters();
    const size = Object.keys(vocabulary).length;
    this.startId = this.endId = vocabulary[END_OF_TEXT];
    this.byteIds = bytes.map((character) => vocabulary[character]);
    const byteOf = new Map(bytes.map((character, byte) => [character, byte]));
    this.pieces = [];
    for (const [piece, id] of Object.entries(vocabulary)) {
      this.pieces[id] = id === this.endId ? [] : Array.from(piece, (character) => byteOf.get(character));
    }
    this.size = size;
    this.merges = new Map(); // left * size + right -> rank, id
    for (const [rank, line] of merges.entries()) {
      const [left, right] = line.split(" ");
      this.merges.set(vocabulary[left] * size + vocabulary[right], { rank, id: vocabulary[left + right] });
    }
  }

  encode(text) {
    const whole = decode(new TextEncoder().encode(text)); // half a surrogate pair is U+FFFD
    return (whole.match(WORDS) ?? []).flatMap((word) => this.#join(word));
  }

  /** The ids of one word: of all neighbours, those of the lowest rank are joined first, the left ones of equals. */
  #join(word) {
    const ids = Array.from(new TextEncoder().encode(word), (byte) => this.byteIds[byte]);
    const rank = (at) => this.merges.get(ids[at] * this.size + ids[at + 1])?.rank ?? NONE;
    const ranks = new Uint32Array(ids.length - 1).map((_, at) => rank(at));
    for (let count = ranks.length; count > 0; count--) {
      let best = 0;
      for (let at = 1; at < count; at++) if (ranks[at] < ranks[best]) best = at;
      if (ranks[best] === NONE) break;
      ids.splice(best, 2, this.merges.get(ids[best] * this.size + ids[best + 1]).id);
      ranks.copyWithin(best, best + 1, count);
      if (best > 0) ranks[best - 1] = rank(best - 1);
      if (best < count - 1) ranks[best] = rank(best);
    }
    return ids;
  }

  decode(ids) {
    const bytes = Array.from(ids, Number).flatMap((id) => this.pieces[id] ?? REPLACEMENT);
    return decode(Uint8Array.from(bytes));
  }

  isSpecial(id) {
    return id === this.endId;
  }

  /** What one id is called in a picture: its text, with signs for white space, or its bytes where none can be seen. */
  label(id) {
    if (id === this.endId) return "end";
    const bytes = this.pieces[id];
    const text = this.decode([id]).replaceAll(" ", "▁").replaceAll("\n", "↵").replaceAll("\t", "⇥");
    if (!/[\p{Cc}\ufffd]/u.test(text)) return text;
    return bytes.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  }
}

function decode(bytes) {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** The character that spells each byte: itself where it is printable, else one from U+0100 on. */
function byteCharacters() {
  let others = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : others++);
  });
}
