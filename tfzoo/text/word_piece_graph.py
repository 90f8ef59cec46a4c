"""WordPiece in a TensorFlow graph: BERT's words, then TensorFlow Text's linear-time kernel on each of them.

TensorFlow Text's own `FastBertTokenizer` gives other ids than Hugging Face's `tokenizers`:

* Uncased, it folds compatibility characters ("²" to "2", "ﬁ" to "fi"), which BERT leaves alone.
* It keeps private-use characters and U+FFFD, which BERT drops.
* It knows a newer Unicode: accents that are stripped, letters that are lowercased, marks that are dropped as control
  characters or stand alone as punctuation.
* It takes U+2B820 to U+2B91F as Chinese, as Google's BERT does and Hugging Face's does not.
* It allows a word 100 bytes, where BERT allows 100 characters.

Nothing of that is left here. Only `FastWordpieceTokenizer` is used, on words that are made by a table, and that is read
off `tokenizers` itself: what its normalizer and its pre-tokenizer make of each code point. No code point's answer
depends on its neighbours, but for the order of combining marks, which `_reordered` sees to.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text
import tokenizers as hf

from tfzoo.text.ragged import kept, row_ids
from tfzoo.text.special_tokens import BERT_UNK

# Planes 4 to 13 have no characters.
_CODE_POINTS = [code for code in (*range(0x40000), *range(0xE0000, 0x110000)) if not 0xD800 <= code < 0xE000]
_PAGE = 256
# In a table of what comes of a code point: nothing; nothing, for it is an accent that is stripped; itself; nothing, but
# it is an accent across which marks do not change places.
_NONE, _ACCENT, _SAME, _BARRIER = -3, -2, -1, 0
# A mark that is kept is its code point and this times its combining class.
_CLASS = 1 << 21


class WordPieceGraph(tf.Module):
    """Token ids of text and text of token ids by one vocabulary.

    Args:
        pieces: V pieces, by id.
        surfaces: V + 1 texts by id, the last for ids out of range: of a piece at the start of the text, and behind it.
        dropped: ids that are no text.
        lowercase: whether text is lowercased and loses its accents.
        max_word_length: characters; a longer word is unknown.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        surfaces: tuple[Sequence[str], Sequence[str]],
        dropped: Sequence[int],
        *,
        lowercase: bool,
        max_word_length: int,
    ) -> None:
        super().__init__()
        self._kernel = tensorflow_text.FastWordpieceTokenizer(
            list(pieces),
            suffix_indicator="##",
            max_bytes_per_word=4 * max_word_length,
            token_out_type=tf.int32,
            unknown_token=BERT_UNK,
            no_pretokenization=True,
        )
        self._surfaces = np.array([[one.encode() for one in side] for side in surfaces], dtype=object)
        self._dropped = np.array(dropped, np.int32)
        self._lowercase = lowercase
        self._max_word_length = max_word_length

    # Functions, so that an eager call runs in a graph too.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids of (B,) strings."""
        words = split_words(strings, lowercase=self._lowercase)
        known = tf.where(self._is_long(words), BERT_UNK, words.flat_values)
        return words.with_flat_values(self._kernel.tokenize(known)).merge_dims(1, 2)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def tokenize_with_offsets(self, strings: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Returns ids, starts and ends, (B, None) int32 each; see `WordPieceTokenizer.encode_with_offsets`."""
        text = _normalized_text(strings, self._lowercase)
        words = _split(text.characters)
        is_long = self._is_long(words)
        ids, starts, ends = self._kernel.tokenize_with_offsets(tf.where(is_long, BERT_UNK, words.flat_values))
        # The kernel counts bytes from the start of a word; a piece begins and ends where its first and last byte stand.
        word = row_ids(ids)
        word_sizes = tf.cast(tf.strings.length(words.flat_values), tf.int64)
        before = tf.gather(tf.cumsum(word_sizes, exclusive=True), word)
        sizes = tf.where(tf.gather(is_long, word), tf.gather(word_sizes, word), tf.cast(ends.flat_values, tf.int64))
        letters, is_letter = text.characters.flat_values, text.characters.flat_values != ord(" ")
        num_bytes = 1 + sum(tf.cast(letters >= first, tf.int32) for first in (0x80, 0x800, 0x10000))
        place = tf.repeat(tf.boolean_mask(text.places, is_letter), tf.boolean_mask(num_bytes, is_letter))
        first = tf.gather(place, before + tf.cast(starts.flat_values, tf.int64))
        behind = tf.gather(text.behind, tf.gather(place, before + sizes - 1))
        ids = words.with_flat_values(ids).merge_dims(1, 2)
        row_starts = tf.gather(text.row_starts, row_ids(ids))
        return ids, *(ids.with_flat_values(tf.cast(one - row_starts, tf.int32)) for one in (first, behind))

    def _is_long(self, words: tf.RaggedTensor) -> tf.Tensor:
        """Which words are unknown for their length; none of a text is "[UNK]", with brackets and letters in it."""
        return tf.strings.length(words.flat_values, unit="UTF8_CHAR") > self._max_word_length

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)], autograph=False)
    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) UTF-8 strings of (B, None) ids."""
        is_text = tf.reduce_all(ids.flat_values[:, tf.newaxis] != self._dropped, axis=1)
        ids = kept(ids, is_text)
        unknown = self._surfaces.shape[1] - 1
        values = tf.where((ids.flat_values >= 0) & (ids.flat_values < unknown), ids.flat_values, unknown)
        ids = ids.with_flat_values(values)
        first, later = (
            tf.strings.reduce_join(part.with_flat_values(tf.gather(tf.constant(side, tf.string), part.flat_values)), -1)
            for side, part in zip(self._surfaces, (ids[:, :1], ids[:, 1:]), strict=True)
        )
        return first + later


def split_words(strings: tf.Tensor, *, lowercase: bool) -> tf.RaggedTensor:
    """Cuts text into BERT's words: cleaned, and each mark of punctuation and each Chinese character for itself.

        ["Ünï's 漢字"], lowercase=True  ->  [["uni", "'", "s", "漢", "字"]]

    Args:
        strings: (B,) string; what is not UTF-8 is dropped, as U+FFFD is.
        lowercase: whether accents are stripped and letters are lowercased.

    Returns: (B, None) string.
    """
    return _split(_normalized_text(strings, lowercase).characters)


class _Text(NamedTuple):
    """B texts of N code points in all, normalized.

    characters: (B, None) int32, M code points in all, words parted by spaces.
    places: (M,) int64, which of the N code points each was made of; marks that change places leave them where they are.
    behind: (N,) int64, the place behind a code point and the accents that are stripped off it.
    row_starts: (B,) int64, the place of each text's first code point.
    """

    characters: tf.RaggedTensor
    places: tf.Tensor
    behind: tf.Tensor
    row_starts: tf.Tensor


def _normalized_text(strings: tf.Tensor, lowercase: bool) -> _Text:
    index, pages, outputs = _table(lowercase)
    codes = tf.strings.unicode_decode(strings, "UTF-8")
    flat = codes.flat_values
    entries = tf.gather(pages, tf.gather(index, flat // _PAGE) * _PAGE + flat % _PAGE)
    made = tf.gather(outputs, entries)  # (N, outputs of a code point)
    values = tf.reshape(tf.where(made == _SAME, flat[:, tf.newaxis], made), [-1])
    rows = tf.RaggedTensor.from_row_splits(values, codes.row_splits * outputs.shape[1], validate=False)
    if lowercase:
        rows = _reordered(rows)
    is_kept = rows.flat_values > 0
    rows = kept(rows, is_kept)
    places = tf.where(tf.reshape(is_kept, [-1, outputs.shape[1]]))[:, 0]
    return _Text(
        rows.with_flat_values(rows.flat_values % _CLASS), places, _behind(codes, made[:, 0]), codes.row_starts()
    )


def _behind(codes: tf.RaggedTensor, first: tf.Tensor) -> tf.Tensor:
    """Returns the place behind each code point and its accents, given what comes first of each."""
    is_other = (first != _ACCENT) & (first != _BARRIER)
    others = tf.concat([tf.where(is_other)[:, 0], codes.row_splits[-1:]], axis=0)
    following = tf.gather(others, tf.cumsum(tf.cast(is_other, tf.int64)))
    return tf.minimum(following, tf.gather(codes.row_splits[1:], row_ids(codes)))


def _split(characters: tf.RaggedTensor) -> tf.RaggedTensor:
    return tf.strings.split(tf.strings.unicode_encode(characters, "UTF-8"))


def _reordered(rows: tf.RaggedTensor) -> tf.RaggedTensor:
    """Puts runs of combining marks in Unicode's canonical order."""
    classes = rows.flat_values // _CLASS
    at = tf.where(classes > 0)
    row = tf.searchsorted(rows.row_splits, at[:, 0], side="right", out_type=tf.int64)
    # Counts up at each code point that is no mark, and at each row.
    run = tf.gather_nd(tf.cumsum(tf.cast(classes == 0, tf.int64)), at) + row
    order = tf.argsort(run * 256 + tf.cast(tf.gather_nd(classes, at), tf.int64), stable=True)
    marks = tf.gather(tf.gather_nd(rows.flat_values, at), order)
    return rows.with_flat_values(tf.tensor_scatter_nd_update(rows.flat_values, at, marks))


@functools.cache
def _table(lowercase: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns page of each 256 code points, entry of each code point of a page, and what comes of it by entry.

    Entry 0 is a code point that stays as it is.
    """
    made = _normalized(hf.normalizers.BertNormalizer(lowercase=lowercase))
    separate = _separate({character for text in made.values() for character in text})
    classes = _combining_classes() if lowercase else {}
    if lowercase:
        cleaned = _normalized(hf.normalizers.BertNormalizer(lowercase=False, strip_accents=False))
    entries: dict[tuple[int, ...], int] = {(_SAME,): 0}
    whole = np.zeros(0x110000, np.int16)
    for code, text in made.items():
        if text == chr(code) and text not in separate and code not in classes:
            continue
        output: tuple[int, ...] = ()
        for character in text:
            one = ord(character)
            packed = _SAME if one == code and one not in classes else one + classes.get(one, 0) * _CLASS
            output += (ord(" "), packed, ord(" ")) if character in separate else (packed,)
        if lowercase and not text and cleaned[code]:
            output = (_ACCENT if code in classes else _BARRIER,)
        whole[code] = entries.setdefault(output, len(entries))
    pages, index = np.unique(whole.reshape(-1, _PAGE), axis=0, return_inverse=True)
    outputs = np.full((len(entries), max(map(len, entries))), _NONE, np.int32)
    for output, entry in entries.items():
        outputs[entry, : len(output)] = output
    return index.reshape(-1).astype(np.int32), pages.astype(np.int32).reshape(-1), outputs


def _normalized(normalizer: hf.normalizers.Normalizer) -> dict[int, str]:
    """Returns what a normalizer makes of each code point."""
    found: dict[int, str] = {}
    for start in range(0, len(_CODE_POINTS), 4096):
        chunk = _CODE_POINTS[start : start + 4096]
        # A line end becomes a space.
        found |= zip(chunk, normalizer.normalize_str("\nx\n".join(map(chr, chunk))).split(" x "), strict=True)
    return found


def _separate(characters: set[str]) -> set[str]:
    """Returns the characters that are words for themselves."""
    words = hf.pre_tokenizers.BertPreTokenizer().pre_tokenize_str("a".join(["", *characters, ""]))
    return {word for word, _ in words if word in characters and word != "a"}


def _combining_classes() -> dict[int, int]:
    """Returns code point -> class above 0 of the marks that `tokenizers` knows; a class never changes in Unicode."""
    nfd = hf.normalizers.NFD()
    classes = {code: unicodedata.combining(chr(code)) for code in _CODE_POINTS}
    # Between the marks of the highest and of the lowest class, every mark but an unknown one makes them move.
    probes = {code: f"\u0345{chr(code)}\u0334" for code, one in classes.items() if one}
    return {code: classes[code] for code, probe in probes.items() if nfd.normalize_str(probe) != probe}
