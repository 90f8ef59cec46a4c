"""What the serving kit must know of an encoder's task: example requests, and what its signatures mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfzoo.export.served_model import Arrays
from tfzoo.runtime.artifact import head_of
from tfzoo.runtime.head import text_columns

_ANSWERS = {
    "text_classification": "`labels` are the classes of each text, best first, and `scores` what they score, "
    "in [0, 1]{together}",
    "token_classification": "`words` are what white space separates in each text, `labels` the class of each word and "
    '`scores` its probability; a row with fewer words than another has "" and 0 behind. Words that no position of the '
    "model holds are left out",
    "fill_mask": "`outputs` is each text with the likeliest token in the place of each [MASK], `tokens` and `scores` "
    'are the likeliest tokens for each [MASK] and their probabilities, best first; a text with fewer of them has "" '
    "and 0 behind",
    "question_answering": '`answers` is the piece of each context that answers its question, "" for none, `scores` its '
    "probability, and `starts` and `ends` say where it stands in the context, in characters (code points), -1 for none",
    "text_embedding": "`embeddings` is a vector of length 1 for each text: the cosine of two texts is the product of "
    "their vectors",
}
_OUTPUTS = {
    "text_classification": "`logits` of the classes",
    "token_classification": "`logits` of the classes of each token",
    "fill_mask": "`logits` for each token",
    "question_answering": "`start_logits` and `end_logits` of each token",
    "text_embedding": "`embeddings`",
}


def encoder_requests(manifest: dict[str, Any]) -> dict[str, Arrays]:
    """Signature name -> one batch of inputs."""
    head = head_of(manifest)
    texts = text_columns(manifest["golden"]["texts"], head)
    requests = {"serving_default": texts, "tokens": _token_ids(manifest), "tokenize": texts}
    if "classify" in manifest["saved_model"]["signatures"]:
        requests["classify"] = {"inputs": _examples(texts)}
    return requests


def _examples(texts: Arrays) -> np.ndarray:
    """(B,) serialized `tf.train.Example`s, as a server makes them of a request to classify."""
    rows = []
    for values in zip(*texts.values(), strict=True):
        example = tf.train.Example()
        for name, value in zip(texts, values, strict=True):
            example.features.feature[name].bytes_list.value.append(value)
        rows.append(example.SerializeToString(deterministic=True))
    return np.array(rows, object)


def _token_ids(manifest: dict[str, Any]) -> Arrays:
    """Two rows, the second one padded."""
    random = np.random.default_rng(0)
    shape = (2, min(7, manifest["max_length"]))
    mask = np.ones(shape, np.int32)
    mask[1, shape[1] // 2 + 1 :] = 0
    token_ids = random.integers(0, manifest["token_id_counts"]["token_ids"], shape, np.int32)
    segment_ids = np.zeros(shape, np.int32)
    segment_ids[:, shape[1] // 2 :] = 1
    return {
        "token_ids": np.where(mask, token_ids, manifest["pad_id"]).astype(np.int32),
        "padding_mask": mask,
        "segment_ids": segment_ids * mask,
    }


def encoder_meanings(manifest: dict[str, Any]) -> dict[str, str]:
    """Signature name -> what it answers, in Markdown."""
    task, head = manifest["task"], head_of(manifest)
    texts = " and ".join(f"`{name}`" for name in head.text_inputs)
    if head.problem == "regression":
        answer = "`scores` is the number that the model gives each text"
    else:
        answer = _ANSWERS[task].format(together="; together 1" if head.problem == "single_label" else "")
    if task == "question_answering":
        long = "A context of any length is read in windows that overlap."
    else:
        long = f"A text that is too long for {manifest['max_length']} tokens loses its end."
    return {
        "serving_default": f"Answers {texts}: {answer}. {long}",
        "classify": "The same by TF Serving's classification API: `inputs` are serialized tf.train.Examples with the "
        f"features {texts}, `classes` are the labels. Over REST it is `:classify`, over gRPC `Classify`.",
        "tokens": f"Token ids in, {_OUTPUTS[task]} out. The padding rule: rows of unequal length are filled up at the "
        f"end, by the client, with {manifest['pad_id']} in `token_ids`, 0 in `segment_ids` and 0 in `padding_mask`, "
        "which is 1 elsewhere. A server that merges requests does not fill up: with batching on, requests of unequal "
        f"lengths that meet fail. No row is longer than {manifest['max_length']}.",
        "tokenize": f"`token_ids`, `padding_mask` and `segment_ids` of each {texts}, as `tokens` takes them.",
    }
