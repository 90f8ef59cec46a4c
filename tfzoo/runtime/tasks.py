"""How text becomes the inputs of a search, by task, without TensorFlow.

`tfzoo.data.examples` has the same functions in graph, for the signatures that take strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfzoo.decoding.config import positions_left
from tfzoo.text import TokenizerPair
from tfzoo.text.special_tokens import BERT_MASK
from tfzoo.text.word_piece import WordPieceTokenizer

Inputs = dict[str, np.ndarray]


class Task(NamedTuple):
    """What `TASKS` says of a task.

    Args:
        inputs: what `model.prompt` and `model.start` take, (B, S) int32 each.
        encode: (texts, tokenizer, longest sequence in tokens, (B,) most tokens to generate) -> the inputs.
    """

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


def encode_segments(texts: Sequence[str | tuple[str, str]], tokenizer: WordPieceTokenizer, max_length: int) -> Inputs:
    """What an encoder reads: [CLS] a [SEP], or [CLS] a [SEP] b [SEP]; see `tfzoo.data.examples.encode_segments`.

    Args:
        texts: B texts, or B pairs.
        tokenizer: gives the ids, and [CLS], [SEP] and padding.
        max_length: most tokens, those three included; at least 2, or 3 for two texts.

    Returns: `token_ids`, `padding_mask` (1 = real) and `segment_ids`, (B, T) int32 each.
    """
    return segment_inputs(
        [[tokenizer.encode(one) for one in ((text,) if isinstance(text, str) else text)] for text in texts],
        tokenizer,
        max_length,
    )


def encode_masked(texts: Sequence[str], tokenizer: WordPieceTokenizer, max_length: int) -> Inputs:
    """As `encode_segments` of one text each, in which "[MASK]" is the mask token."""
    rows = []
    for text in texts:
        first, *others = (tokenizer.encode(part) for part in text.split(BERT_MASK))
        rows.append([[*first, *(one for ids in others for one in (tokenizer.mask_id, *ids))]])
    return segment_inputs(rows, tokenizer, max_length)


def encode_words(
    texts: Sequence[str], tokenizer: WordPieceTokenizer, max_length: int
) -> tuple[Inputs, list[list[str]], list[list[int]]]:
    """As `encode_segments` of one text each, with the words in it: what ASCII white space separates.

    Returns: the inputs; the words of each text; where in a row the first piece of each word stands, -1 of a word that
        was cut off or has no piece.
    """
    words = [re.findall(r"\S+", text, re.ASCII) for text in texts]
    inputs, positions = word_inputs(words, tokenizer, max_length)
    return inputs, words, positions


def word_inputs(
    words: Sequence[Sequence[str]], tokenizer: WordPieceTokenizer, max_length: int
) -> tuple[Inputs, list[list[int]]]:
    """Returns inputs and positions as `encode_words` does, of texts that are cut into words already."""
    rows, positions = [], []
    for text in words:
        row: list[int] = []
        places = []
        for word in text:
            pieces = tokenizer.encode(word)
            place = 1 + len(row)  # [CLS] is before it
            places.append(place if pieces and place < max_length - 1 else -1)
            row += pieces
        rows.append([row])
        positions.append(places)
    return segment_inputs(rows, tokenizer, max_length), positions


def segment_inputs(rows: Sequence[Sequence[list[int]]], tokenizer: WordPieceTokenizer, max_length: int) -> Inputs:
    """Cuts, joins and pads the ids of one or two texts a row as `encode_segments` does."""
    token_ids, segment_ids = [], []
    for row in rows:
        room = max_length - 1 - len(row)
        kept = [room]
        if len(row) == 2:
            first, second = map(len, row)
            shorter = min(first, second, room // 2)
            kept = [room - shorter, shorter] if first > second else [shorter, room - shorter]
        parts = [[*ids[:most], tokenizer.end_id] for ids, most in zip(row, kept, strict=True)]
        token_ids.append([tokenizer.start_id, *(one for part in parts for one in part)])
        segment_ids.append([0, *(index for index, part in enumerate(parts) for _ in part)])
    return {
        "token_ids": padded(token_ids, tokenizer.pad_id),
        "padding_mask": padded([[1] * len(row) for row in token_ids], 0),
        "segment_ids": padded(segment_ids, 0),
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
    "seq2seq": Task(("encoder_token_ids",), encode_sources),
    "causal_lm": Task(("token_ids", "padding_mask"), encode_prompts),
}
