r"""Marian's tokenizer in a TensorFlow graph: SentencePiece's operator for the pieces, a table for their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf


class MarianGraph(tf.Module):
    """What `MarianTokenizer` does, for a batch.

    Args:
        operation: text -> pieces, (B,) string -> (B, None) string.
        ids: piece -> id, without the special tokens.
        surfaces: text of each id.
        special: `unk_id`, `pad_id` and `end_id`.
        code_pattern: regular expression of a language code; None = the vocabulary has none.
    """

    def __init__(
        self,
        operation: Any,
        ids: Mapping[str, int],
        surfaces: Sequence[str],
        special: Mapping[str, int],
        code_pattern: str | None,
    ) -> None:
        super().__init__()
        self._operation = operation
        self._surfaces = list(surfaces)
        self._special = dict(special)
        self._code_pattern = code_pattern
        initializer = tf.lookup.KeyValueTensorInitializer(
            tf.constant([*ids], tf.string), tf.constant([*ids.values()], tf.int32)
        )
        self._table = tf.lookup.StaticHashTable(initializer, default_value=special["unk_id"])

    def tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """(B,) string -> (B, None) int32."""
        if self._code_pattern is None:
            return self._cut(strings)
        # \C is any byte: what is not UTF-8 may stand behind a code too.
        codes = tf.strings.regex_replace(strings, rf"\A({self._code_pattern})?\C*", r"\1", replace_global=False)
        code_ids = self._table.lookup(codes)
        is_code = (tf.strings.length(codes) > 0) & (code_ids != self._special["unk_id"])
        lengths = tf.where(is_code, tf.strings.length(codes), 0)
        ids = self._cut(tf.strings.substr(strings, lengths, tf.strings.length(strings) - lengths))
        codes = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(code_ids, is_code), tf.cast(is_code, tf.int64))
        return tf.concat([codes.with_row_splits_dtype(ids.row_splits.dtype), ids], axis=1)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """(B, T) int -> (B,) string."""
        ragged = ids if isinstance(ids, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(ids)
        values = tf.cast(ragged.flat_values, tf.int32)
        known = tf.where((values >= 0) & (values < len(self._surfaces)), values, self._special["unk_id"])
        is_text = (values != self._special["pad_id"]) & (values != self._special["end_id"])
        surfaces = tf.where(is_text, tf.gather(tf.constant(self._surfaces), known), "")
        joined = tf.strings.reduce_join(ragged.with_flat_values(surfaces), axis=-1)
        return tf.strings.regex_replace(joined, r"\A +| +\z", "")

    def _cut(self, strings: tf.Tensor) -> tf.RaggedTensor:
        return tf.ragged.map_flat_values(self._table.lookup, self._operation.tokenize(strings))
