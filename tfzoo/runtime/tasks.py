"""How text becomes the inputs of a search, by task, without TensorFlow.

`tfzoo.data.examples` has the same functions in graph, for the signatures that take strings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfzoo.decoding.config import positions_left
from tfzoo.text import TokenizerPair

Inputs = dict[str, np.ndarray]


class Task(NamedTuple):
    """What `TASKS` says of a task.

    Args:
        text_input: the string input of the signatures that generate.
        inputs: what `model.prompt` and `model.start` take, (B, S) int32 each.
        encode: (texts, tokenizer, longest sequence in tokens, (B,) most tokens to generate) -> the inputs.
    """

    text_input: str
    inputs: tuple[str, ...]
    encode: Callable[[Sequence[str], TokenizerPair, int, np.ndarray], Inputs]


def encode_sources(texts: Sequence[str], tokenizer: TokenizerPair, max_length: int, new_tokens: np.ndarray) -> Inputs:
    """Sources with their end token, padded; a longer one loses its tail.

    Args:
        texts: B sources.
        tokenizer: of both sides.
        max_length: longest source in tokens, the end token included.
        new_tokens: not used; a target has positions of its own.
    """
    source = tokenizer.source
    rows = [[*source.encode(text)[: max_length - 1], source.end_id] for text in texts]
    return {"encoder_token_ids": padded(rows, source.pad_id)}


def encode_prompts(texts: Sequence[str], tokenizer: TokenizerPair, max_length: int, new_tokens: np.ndarray) -> Inputs:
    """Prompts, padded, with their mask; one without a token is the end token, as before a document.

    Args:
        texts: B prompts.
        tokenizer: one for prompt and answer.
        max_length: longest sequence in tokens.
        new_tokens: (B,) int, most tokens to generate: a prompt that leaves them no room loses its head.
    """
    one = tokenizer.source
    kept = np.maximum(positions_left(max_length, new_tokens), 1).tolist()
    prompts = [text + tokenizer.prompt_suffix for text in texts]
    rows = [(one.encode(text) or [one.end_id])[-most:] for text, most in zip(prompts, kept, strict=True)]
    token_ids = padded(rows, one.pad_id)
    lengths = np.array([len(row) for row in rows])
    return {
        "token_ids": token_ids,
        "padding_mask": (np.arange(token_ids.shape[1]) < lengths[:, np.newaxis]).astype(np.int32),
    }


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> np.ndarray:
    """Rows of ids -> (B, T) int32, filled up on the right to the longest.

    >>> padded([[5, 6], [7]], 0).tolist()
    [[5, 6], [7, 0]]
    """
    token_ids = np.full((len(rows), max(map(len, rows))), pad_id, np.int32)
    for row, ids in zip(token_ids, rows, strict=True):
        row[: len(ids)] = ids
    return token_ids


TASKS = {
    "seq2seq": Task("source", ("encoder_token_ids",), encode_sources),
    "causal_lm": Task("text", ("token_ids", "padding_mask"), encode_prompts),
}
