"""How well a language model predicts a corpus, in the units that compare across tokenizers.

The loss is a sum over every token of the corpus, the end token of each document included. Divided by the number of
tokens it depends on the vocabulary; divided by words or bytes of the text it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from tfzoo.data import causal_lm_windows, prompt_answer
from tfzoo.data.cleaning import clean
from tfzoo.data.sources import read
from tfzoo.evaluation.likelihood import Logits, token_likelihood
from tfzoo.text import Tokenizer

MAX_LOGITS = 1 << 25  # that are in memory at once
MAX_EXPONENT = 700  # of what a float holds


def perplexity(
    logits: Logits,
    specs: Sequence[str],
    tokenizer: Tokenizer,
    *,
    sequence_length: int,
    stride: int,
    cleaning: Sequence[str] = (),
) -> dict[str, Any]:
    """Scores every token of the documents behind up to `sequence_length` others.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, V) float32.
        specs: data specifications of one column.
        tokenizer: of the model.
        sequence_length: T, of the windows that the documents are cut into.
        stride: tokens that a window is ahead of the one before; the fewer, the more context each token has.
        cleaning: steps that the documents go through first.

    Returns: `loss` (nats per token), `perplexity` (its exponential), `token_accuracy`, `num_tokens`,
        `perplexity_per_word` (words are what white space separates; None where that is no word, as in Chinese, and the
        number beyond a float), `bits_per_byte` (of the text in UTF-8),
        `num_words`, `num_bytes` and `num_documents`.

    Raises:
        UsageError: an unknown specification, or a number out of its range.
        DataError: missing or malformed data.
    """
    batch_size = max(1, MAX_LOGITS // (sequence_length * tokenizer.vocabulary_size))
    batches = causal_lm_windows(
        specs, tokenizer, sequence_length=sequence_length, stride=stride, batch_size=batch_size, cleaning=cleaning
    )
    progress = tqdm(batches.as_numpy_iterator(), "scoring", len(batches), unit=" batches", leave=False, disable=None)
    scores = token_likelihood(logits, progress)
    nats = scores["loss"] * scores["num_tokens"]
    num_words = num_bytes = num_documents = 0
    for document in clean((text for spec in specs for (text,) in read(spec, columns=1)), cleaning):
        num_words += len(document.split())
        num_bytes += len(document.encode("utf-8", "replace"))
        num_documents += 1
    return {
        **scores,
        "perplexity_per_word": math.exp(nats / num_words) if nats / num_words < MAX_EXPONENT else None,
        "bits_per_byte": nats / math.log(2) / num_bytes,
        "num_words": num_words,
        "num_bytes": num_bytes,
        "num_documents": num_documents,
    }


def answer_likelihood(
    logits: Logits, specs: Sequence[str], tokenizer: Tokenizer, *, sequence_length: int, separator: str
) -> dict[str, Any]:
    """Scores every token of the answers, their end tokens included, given their prompts.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, V) float32.
        specs: data specifications of (prompt, answer) pairs.
        tokenizer: of the model.
        sequence_length: longest prompt with its answer, in tokens; longer pairs are left out and counted in the log.
        separator: text between the two.

    Returns: as `token_likelihood`.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data.
    """
    batch_size = max(1, MAX_LOGITS // (sequence_length * tokenizer.vocabulary_size))
    batches = prompt_answer(
        specs,
        tokenizer,
        sequence_length=sequence_length,
        batch_size=batch_size,
        separator=separator,
        shuffle=False,
    )
    return token_likelihood(logits, batches.as_numpy_iterator())
