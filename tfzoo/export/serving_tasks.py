"""What the serving kit must know of a task, and cannot read from the signatures: example requests, and what they mean.

A new task adds its entry to `TASKS`; the files of `tfzoo.export.serving_kit`, the warm-up requests and the rules of
`tfzoo.export.serving_rules` follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.export.served_model import Arrays


class ServingTask(NamedTuple):
    """What `TASKS` says of a task.

    Args:
        requests: manifest -> signature name -> one batch of inputs.
        meanings: manifest -> signature name -> what it answers, in Markdown.
    """

    requests: Callable[[dict[str, Any]], dict[str, Arrays]]
    meanings: Callable[[dict[str, Any]], dict[str, str]]


def _seq2seq_requests(manifest: dict[str, Any]) -> dict[str, Arrays]:
    texts = np.array([text.encode() for text in manifest["golden"]["texts"]], object)
    searches = [search["options"] for search in manifest["golden"]["searches"].values()]
    # One row for each kind of search, as a server that merges requests would put them together.
    rows = [searches[index % len(searches)] for index in range(len(texts))]
    options = {name: np.array([row[name] for row in rows], dtype) for name, dtype in ROW_OPTIONS.items()}
    random = np.random.default_rng(0)
    token_ids = {}
    for length, (name, count) in zip((7, 5), manifest["token_id_counts"].items(), strict=True):
        length = min(length, manifest["max_length"])
        token_ids[name] = random.integers(4, count, (2, length), np.int32)
        token_ids[name][1, length // 2 + 1 :] = manifest["pad_id"]
    return {
        "serving_default": {"source": texts},
        "generate": {"source": texts, **options},
        "tokens": token_ids,
        "tokenize": {"source": texts},
        "detokenize": {"token_ids": np.array(manifest["golden"]["searches"]["greedy"]["token_ids"], np.int32)},
    }


def _seq2seq_meanings(manifest: dict[str, Any]) -> dict[str, str]:
    decoding = manifest["decoding"]
    if decoding["temperature"] > 0:
        search = f"sampling at temperature {decoding['temperature']:g}"
    elif decoding["num_beams"] > 1:
        search = f"beam search with {decoding['num_beams']} beams"
    else:
        search = "greedy search"
    pad_id = manifest["pad_id"]
    return {
        "serving_default": f"Answers each text of `source` by {search}, at most {decoding['max_length']} tokens: "
        "`outputs` is the answer, `scores` its log-probability in nats, divided by the length penalty.",
        "generate": "The same with search options, one number for each text: `num_beams` above 1 searches by beams, "
        "`temperature` above 0 samples, as a function of `seed`. `outputs`, `scores` and `token_ids` hold the "
        "hypotheses of each text, best first; a text with fewer than another has empty ones behind, scored -1e9.",
        "tokens": "Token ids in, `logits` for the token after each of `decoder_token_ids` out. The padding rule: rows "
        f"of unequal length are filled up with {pad_id} at the end, by the client; {pad_id} in `encoder_token_ids` is "
        "masked, and logits at filled-up places of `decoder_token_ids` mean nothing. A server that merges requests "
        "does not fill up: with batching on, requests of unequal lengths that meet fail. "
        f"No row is longer than {manifest['max_length']}.",
        "tokenize": "`encoder_token_ids` of each text of `source`, with the end token, as `tokens` takes them.",
        "detokenize": f"The text of each row of `token_ids`, ids of the answer's side filled up with {pad_id}.",
    }


TASKS = {"seq2seq": ServingTask(_seq2seq_requests, _seq2seq_meanings)}
