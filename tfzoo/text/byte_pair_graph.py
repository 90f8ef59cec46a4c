r"""Byte-level BPE in a TensorFlow graph: GPT-2's words, then its merges, all words of a batch at once.

Only operators of TensorFlow, and one static table: nothing is cached, nothing grows in a server.

* Words. GPT-2 cuts text by `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, and RE2 has no
  look-ahead. All that `\s+(?!\S)` does is to leave the last white space of a run to the word behind it: so the text is
  cut there first, and then the look-ahead is true of every run.
* Merges. Each step joins, in every distinct word, all pairs of the word's lowest rank; words that are done leave the
  loop. A word of n bytes takes at most n steps of O(n) work; a run of one character takes O(log n) steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfzoo.text.ragged import kept, row_ids

# A byte that UTF-8 never has, so no text spells it.
_CUT = b"\xff"

# Unicode's White_Space; RE2's own \s is ASCII's, without the vertical tab.
_SPACE = r"\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"


def _ranges(text: str) -> str:
    ends = (one.split("-") for one in text.split())
    return "".join(rf"\x{{{first}}}-\x{{{last}}}" for first, last in ends)


# TensorFlow's RE2 knows Unicode 15.0; these are the letters and numbers that 15.1 and 16.0 added.
_LETTER = r"\p{L}" + _ranges(
    "1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 11380-11389 1138B-1138B 1138E-1138E "
    "11390-113B5 113B7-113B7 113D1-113D1 113D3-113D3 11BC0-11BE0 13460-143FA 16100-1611D 16D40-16D6C 18CFF-18CFF "
    "1E5D0-1E5ED 1E5F0-1E5F0 2EBF0-2EE5D"
)
_NUMBER = r"\p{N}" + _ranges("10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA")

_END_OF_SPACE = f"([{_SPACE}])([{_SPACE}][^{_SPACE}])"
_WORD = f"'s|'t|'re|'ve|'m|'ll|'d| ?[{_LETTER}]+| ?[{_NUMBER}]+| ?[^{_SPACE}{_LETTER}{_NUMBER}]+|[{_SPACE}]+"


def split_words(strings: tf.Tensor) -> tf.RaggedTensor:
    r"""Cuts text into the words that merges stay within; joined again they are the text.

        ["it's  2nd \n"]  ->  [["it", "'s", " ", " 2", "nd", " \n"]]

    Args:
        strings: (B,) string; what is not UTF-8 becomes U+FFFD, as by Python's `bytes.decode("utf-8", "replace")`.

    Returns: (B, None) string.
    """
    text = tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", errors="replace")
    for pattern, rewrite in ((_END_OF_SPACE, rb"\1" + _CUT + rb"\2"), (_WORD, rb"\0" + _CUT)):
        text = tf.strings.regex_replace(text, pattern, rewrite)
    words = tf.strings.split(text, _CUT)
    return kept(words, words.flat_values != b"")


class BytePairGraph(tf.Module):
    """Token ids of text and text of token ids by one vocabulary; a SavedModel must track it.

    Args:
        pieces: V byte strings, by id.
        byte_ids: 256 ids, by byte.
        merges: M (left, right, what they make) ids, by rank.
        end_id: the token that is no text.
    """

    def __init__(
        self, pieces: Sequence[bytes], byte_ids: Sequence[int], merges: Sequence[tuple[int, int, int]], end_id: int
    ) -> None:
        super().__init__()
        self._pieces = np.array([*pieces, "\ufffd".encode()], dtype=object)  # the last for ids out of range
        self._byte_ids = np.array(byte_ids, np.int64)
        self._end_id = end_id
        self._num_merges = len(merges)
        left, right, merged = np.array(merges, np.int64).reshape(-1, 3).T
        self._merged = np.append(merged, 0)  # one more, for the rank of a pair that does not merge
        # A merge that makes part of a pair of lower rank: that pair comes next, before other places of this rank.
        first_rank = np.full(len(pieces), self._num_merges)
        for side in (left, right):
            np.minimum.at(first_rank, side, np.arange(self._num_merges))
        self._one_at_a_time = np.append(first_rank[merged] < np.arange(self._num_merges), False)
        # A table may not be empty: the last key is no pair's.
        pairs = np.append(left * len(pieces) + right, -1)
        self._ranks = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(pairs), tf.range(len(pairs), dtype=tf.int64)),
            default_value=self._num_merges,
        )

    # Functions, so that an eager call runs the loop in a graph too.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Returns (B, None) int32 ids of (B,) strings."""
        words = split_words(strings)
        distinct, index = tf.unique(words.flat_values)
        ids = tf.cast(tf.gather(self._merge(distinct), index), tf.int32)
        return words.with_flat_values(ids).merge_dims(1, 2)

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)], autograph=False)
    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns (B,) UTF-8 strings of (B, None) ids: the end token dropped, U+FFFD for what is no text."""
        size = len(self._pieces) - 1
        ids = kept(ids, ids.flat_values != self._end_id)
        known = tf.where((ids.flat_values >= 0) & (ids.flat_values < size), ids.flat_values, size)
        pieces = tf.gather(tf.constant(self._pieces, tf.string), known)
        text = tf.strings.reduce_join(ids.with_flat_values(pieces), axis=-1)
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")

    def _merge(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Returns (W, None) int64 ids of (W,) words."""
        ids = tf.gather(self._byte_ids, tf.cast(tf.io.decode_raw(tf.strings.reduce_join(words), tf.uint8), tf.int32))
        lengths = tf.cast(tf.strings.length(words), tf.int64)
        rows = tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)
        result, *_ = tf.while_loop(
            lambda result, ids, words, places: tf.size(ids) > 0,
            self._step,
            # The ids by the place of their first byte, -1 where no token begins; then the words that are not done.
            (ids, ids, tf.cast(row_ids(rows), tf.int32), tf.range(tf.size(ids))),
            shape_invariants=(tf.TensorShape([None]),) * 4,
        )
        return kept(rows.with_flat_values(result), result >= 0)

    def _step(
        self, result: tf.Tensor, ids: tf.Tensor, words: tf.Tensor, places: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Merges all pairs of the lowest rank in each word; `ids`, `words` and `places` are (A,), of active words."""
        pairs = ids[:-1] * (len(self._pieces) - 1) + ids[1:]
        ranks = tf.where(words[:-1] == words[1:], self._ranks.lookup(pairs), self._num_merges)
        ranks = tf.concat([ranks, [self._num_merges]], axis=0)
        lowest = tf.gather(tf.math.segment_min(ranks, words), words)
        is_merged = (ranks == lowest) & (ranks < self._num_merges)
        index = tf.range(tf.size(ids))
        # "aaaa": of pairs that overlap, every other one, counted from the first.
        is_first = is_merged & ~_shift(is_merged)
        firsts = tf.concat([[0], tf.boolean_mask(index, is_first)], axis=0)
        is_merged &= (index - tf.gather(firsts, tf.cumsum(tf.cast(is_first, tf.int32)))) % 2 == 0
        if self._one_at_a_time.any():
            leftmost = tf.math.segment_min(tf.where(is_merged, index, tf.size(ids)), words)
            is_merged &= (index == tf.gather(leftmost, words)) | ~tf.gather(self._one_at_a_time, ranks)
        is_gone = _shift(is_merged)
        merged = tf.gather(self._merged, tf.boolean_mask(ranks, is_merged))
        at = tf.concat([tf.boolean_mask(places, is_merged), tf.boolean_mask(places, is_gone)], axis=0)
        updates = tf.concat([merged, tf.fill(tf.shape(merged), tf.constant(-1, tf.int64))], axis=0)
        result = tf.tensor_scatter_nd_update(result, at[:, tf.newaxis], updates)
        is_active = ~is_gone & (lowest < self._num_merges)
        places = tf.boolean_mask(places, is_active)
        words = tf.boolean_mask(words, is_active)
        # Numbered anew: a step costs what is active, not what there was.
        words = tf.cumsum(tf.cast(tf.concat([words[:1] * 0, words[1:] - words[:-1]], axis=0) > 0, tf.int32))
        return result, tf.gather(result, places), words, places


def _shift(flags: tf.Tensor) -> tf.Tensor:
    return tf.concat([[False], flags[:-1]], axis=0)
