"""Attention masks: True where a query may look at a key."""

from __future__ import annotations

from typing import Any

from keras import ops

# Finite, because a softmax over a row of -inf is NaN; far below any score, so that exp() gives exactly 0.
MASKED_SCORE = -1e9


def causal_mask(num_queries: Any, num_past: Any) -> Any:
    """Lets query t see the `num_past` cached keys and the new keys up to its own.

    >>> causal_mask(2, 1)
    [[True, True, False], [True, True, True]]

    Returns: (1, 1, num_queries, num_past + num_queries) bool.
    """
    query_positions = ops.expand_dims(ops.arange(num_queries) + num_past, 1)
    key_positions = ops.expand_dims(ops.arange(num_queries + num_past), 0)
    return ops.expand_dims(ops.expand_dims(key_positions <= query_positions, 0), 0)


def padding_mask_to_attention_mask(padding_mask: Any) -> Any:
    """(B, S) int, 1 = real token -> (B, 1, 1, S) bool, the same for each head and query."""
    return ops.expand_dims(ops.expand_dims(ops.cast(padding_mask, "bool"), 1), 1)
