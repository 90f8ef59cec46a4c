"""What the serving kit must know of a task, and cannot read from the signatures: example requests, and what they mean.

A new task adds its meanings; the files of `tfzoo.export.serving_kit`, the warm-up requests and the rules of
`tfzoo.export.serving_rules` follow from them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.export.served_model import Arrays
from tfzoo.export.serving_encoder import encoder_meanings, encoder_requests
from tfzoo.runtime.artifact import head_of
from tfzoo.runtime.encoder import ENCODER_TASKS
from tfzoo.runtime.head import text_columns


def requests(manifest: dict[str, Any]) -> dict[str, Arrays]:
    """Signature name -> one batch of inputs."""
    if manifest["task"] in ENCODER_TASKS:
        return encoder_requests(manifest)
    texts = text_columns(_texts(manifest), head_of(manifest))
    searches = [search["options"] for search in manifest["golden"]["searches"].values()]
    # One row for each kind of search, as a server that merges requests would put them together.
    rows = [searches[index % len(searches)] for index in range(len(_texts(manifest)))]
    options = {name: np.array([row[name] for row in rows], dtype) for name, dtype in ROW_OPTIONS.items()}
    return {
        "serving_default": texts,
        "generate": texts | options,
        "tokens": _token_ids(manifest),
        "tokenize": texts,
        "detokenize": {"token_ids": np.array(manifest["golden"]["searches"]["greedy"]["token_ids"], np.int32)},
    }


def _texts(manifest: dict[str, Any]) -> list[str]:
    return manifest["golden"]["texts"]


def _token_ids(manifest: dict[str, Any]) -> Arrays:
    """Two rows for each input of the model, the second one padded."""
    random = np.random.default_rng(0)
    made = {}
    for length, (name, count) in zip((7, 5), manifest["token_id_counts"].items(), strict=False):
        length = min(length, manifest["max_length"])
        num_special = min(4, count - 1)
        token_ids = random.integers(num_special, count, (2, length), np.int32)
        token_ids[1, length // 2 + 1 :] = manifest["pad_id"]
        made[name] = token_ids
        if manifest["task"] == "causal_lm":
            made["padding_mask"] = np.ones_like(token_ids)
            made["padding_mask"][1, length // 2 + 1 :] = 0
    return made


def meanings(manifest: dict[str, Any]) -> dict[str, str]:
    """Signature name -> what it answers, in Markdown."""
    makers = {"seq2seq": _seq2seq_meanings, "causal_lm": _causal_lm_meanings}
    return makers.get(manifest["task"], encoder_meanings)(manifest)


def _search(manifest: dict[str, Any]) -> str:
    decoding = manifest["decoding"]
    if decoding["temperature"] > 0:
        kind = f"sampling at temperature {decoding['temperature']:g}"
    elif decoding["num_beams"] > 1:
        kind = f"beam search with {decoding['num_beams']} beams"
    else:
        kind = "greedy search"
    return f"{kind}, at most {decoding['max_length']} tokens"


_GENERATE = (
    "The same with search options, one number for each text: `num_beams` above 1 searches by beams, `temperature` "
    "above 0 samples, as a function of `seed`. `outputs`, `scores`, `token_ids` and `log_probs` (nats, of each token) "
    "hold the hypotheses of each text, best first; a text with fewer than another has empty ones behind, scored -1e9."
)
_NO_MERGING = (
    "A server that merges requests does not fill up: with batching on, requests of unequal lengths that meet fail."
)


def _seq2seq_meanings(manifest: dict[str, Any]) -> dict[str, str]:
    pad_id = manifest["pad_id"]
    return {
        "serving_default": f"Answers each text of `source` by {_search(manifest)}: "
        "`outputs` is the answer, `scores` its log-probability in nats, divided by the length penalty.",
        "generate": _GENERATE,
        "tokens": "Token ids in, `logits` for the token after each of `decoder_token_ids` out. The padding rule: rows "
        f"of unequal length are filled up with {pad_id} at the end, by the client; {pad_id} in `encoder_token_ids` is "
        f"masked, and logits at filled-up places of `decoder_token_ids` mean nothing. {_NO_MERGING} "
        f"No row is longer than {manifest['max_length']}.",
        "tokenize": "`encoder_token_ids` of each text of `source`, with the end token, as `tokens` takes them.",
        "detokenize": f"The text of each row of `token_ids`, ids of the answer's side filled up with {pad_id}.",
    }


def _causal_lm_meanings(manifest: dict[str, Any]) -> dict[str, str]:
    pad_id = manifest["pad_id"]
    return {
        "serving_default": f"Continues each prompt of `text` by {_search(manifest)}: `outputs` is what follows the "
        "prompt, `scores` its log-probability in nats, divided by the length penalty. A prompt that leaves no room for "
        f"so many within {manifest['max_length']} tokens loses its beginning.",
        "generate": _GENERATE,
        "tokens": "Token ids in, `logits` for the token after each of `token_ids` out. The padding rule: rows of "
        f"unequal length are filled up at the end, by the client, with {pad_id} in `token_ids` and 0 in "
        f"`padding_mask`, which is 1 elsewhere; logits at filled-up places mean nothing. {_NO_MERGING} "
        f"No row is longer than {manifest['max_length']}.",
        "tokenize": "`token_ids` and `padding_mask` of each text of `text`, as `tokens` takes them.",
        "detokenize": f"The text of each row of `token_ids`, filled up with {pad_id}.",
    }
