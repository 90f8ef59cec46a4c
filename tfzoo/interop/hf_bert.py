"""BERT as Hugging Face's transformers keeps it: its config.json and the names of its tensors.

The task is what `architectures` says; a base model, as sentence-transformers' folders have it, becomes
"text_embedding".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfzoo.errors import CheckpointError, RecipeError
from tfzoo.export.huggingface import BERT_ARCHITECTURES, BERT_DROPOUTS, BERT_FIELDS, BERT_FIXED, BERT_PROBLEMS
from tfzoo.interop.hf_tables import Tensor, check_fixed, check_vocabulary, read_dropout, read_fields
from tfzoo.models.config import BertConfig
from tfzoo.recipes.bert import further
from tfzoo.recipes.recipe import Recipe
from tfzoo.text import WordPieceTokenizer

# Before the names of the base model; left out where it alone was saved.
PREFIX = "bert."
HEADS = re.compile(r"(cls|classifier|qa_outputs)\..*")
# Buffers, and parts that other tasks need: checkpoints made for pretraining have them whatever they are used for.
IGNORED = re.compile(r"embeddings\.position_ids|pooler\..*|cls\..*")
# Copies of other tensors, which may be there.
TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# How checkpoints that came from TensorFlow name the ends of some names.
RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

_TASKS = {architecture: task for task, architecture in BERT_ARCHITECTURES.items()}


def examples(config: BertConfig) -> tuple[str | tuple[str, str], ...]:
    """Returns a few inputs for the proof of an export: texts, or pairs of them."""
    if config.task == "fill_mask":
        return (
            "The weather today is very [MASK].",
            "A year has twelve [MASK].",
            "She opened the [MASK] and went in.",
            "[MASK] is the largest animal of all.",
        )
    if config.num_texts == 2:
        return (
            ("Where do the cats sleep?", "The dogs lie in the yard. The cats sleep on the warm roof of the shed."),
            ("How many days has a week?", "There are seven days in a week, and about four weeks in a month."),
            ("Who wrote the letter?", "Anna found the letter that her brother Paul had written years ago."),
            ("What does the shop sell?", "Behind the station is a small shop with bread, milk and newspapers."),
        )
    return (
        "The film was long, and we enjoyed every minute of it.",
        "Nothing in this book made any sense to me.",
        "Anna and Paul travelled from Berlin to Warsaw by train.",
        "How can I change my password?",
    )


def tensors(config: BertConfig) -> dict[str, Tensor]:
    """Returns their name -> our variables, of the encoder and the head that the task has."""
    table = _encoder(config)
    if config.task == "text_classification" or config.next_sentence:
        table |= _dense("pooler.dense", "pooler", config.hidden_dim, config.hidden_dim)
    if config.task == "fill_mask":
        table |= _masked_lm(config)
    if config.next_sentence:
        table |= _dense("cls.seq_relationship", "next_sentence", config.hidden_dim, 2)
    if config.task in ("text_classification", "token_classification"):
        num_outputs = len(config.labels) if config.is_labelled else 1
        table |= _dense("classifier", config.task, config.hidden_dim, num_outputs)
    if config.task == "question_answering":
        table |= _dense("qa_outputs", config.task, config.hidden_dim, 2)
    return table


def other_tensors(config: BertConfig) -> dict[str, Tensor]:
    """Returns the same of parts that the task has not, and that are good for another one."""
    table = _dense("pooler.dense", "pooler", config.hidden_dim, config.hidden_dim)
    table |= _dense("cls.seq_relationship", "next_sentence", config.hidden_dim, 2) | _masked_lm(config)
    return {name: tensor for name, tensor in table.items() if name not in tensors(config)}


def _encoder(config: BertConfig) -> dict[str, Tensor]:
    d, f = config.hidden_dim, config.intermediate_dim
    table = {
        "embeddings.word_embeddings.weight": Tensor(("embedding/table",), (config.vocabulary_size, d)),
        "embeddings.position_embeddings.weight": Tensor(("positions/table",), (config.max_sequence_length, d)),
        "embeddings.token_type_embeddings.weight": Tensor(("segment_embedding/table",), (2, d)),
        **_normalization("embeddings.LayerNorm", "embedding_normalization", d),
    }
    for i in range(config.num_layers):
        theirs, ours = f"encoder.layer.{i}", f"block_{i}"
        for part in ("query", "key", "value"):
            table |= _dense(f"{theirs}.attention.self.{part}", f"{ours}/self_attention/{part}", d, d)
        table |= {
            **_dense(f"{theirs}.attention.output.dense", f"{ours}/self_attention/output", d, d),
            **_normalization(f"{theirs}.attention.output.LayerNorm", f"{ours}/self_residual/normalization", d),
            **_dense(f"{theirs}.intermediate.dense", f"{ours}/feed_forward/intermediate", d, f),
            **_dense(f"{theirs}.output.dense", f"{ours}/feed_forward/output", f, d),
            **_normalization(f"{theirs}.output.LayerNorm", f"{ours}/feed_forward_residual/normalization", d),
        }
    return table


def _masked_lm(config: BertConfig) -> dict[str, Tensor]:
    theirs, d = "cls.predictions.transform", config.hidden_dim
    return {
        **_dense(f"{theirs}.dense", "masked_lm_dense", d, d),
        **_normalization(f"{theirs}.LayerNorm", "masked_lm_normalization", d),
        "cls.predictions.bias": Tensor(("masked_lm_bias",), (config.vocabulary_size,)),
    }


def _dense(theirs: str, ours: str, num_inputs: int, num_outputs: int) -> dict[str, Tensor]:
    return {
        f"{theirs}.weight": Tensor((f"{ours}/kernel",), (num_outputs, num_inputs), transposed=True),
        f"{theirs}.bias": Tensor((f"{ours}/bias",), (num_outputs,)),
    }


def _normalization(theirs: str, ours: str, dim: int) -> dict[str, Tensor]:
    return {
        f"{theirs}.weight": Tensor((f"{ours}/gamma",), (dim,)),
        f"{theirs}.bias": Tensor((f"{ours}/beta",), (dim,)),
    }


def read_config(plain: Mapping[str, Any], tokenizer: Any) -> BertConfig:
    """Returns our configuration.

    Args:
        plain: the content of config.json. transformers does not say there whether a classifier takes one text or two;
            `num_texts` does, if it is there.
        tokenizer: the checkpoint's own; it names the special ids.

    Raises:
        CheckpointError: an option that our BERT does not have, a number out of its range, or another tokenizer.
    """
    check_fixed(plain, BERT_FIXED, "BERT")
    dropout = read_dropout(plain, BERT_DROPOUTS, "BERT")
    if plain.get("classifier_dropout") not in (None, dropout):
        raise CheckpointError(
            f"classifier_dropout is {plain['classifier_dropout']!r}, and this BERT has one dropout, {dropout!r}; set "
            "it to null, the weights stay the same"
        )
    fields = read_fields(plain, BERT_FIELDS)
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise CheckpointError("its tokenizer is no WordPiece as BERT's")
    check_vocabulary(fields, tokenizer)
    try:
        return BertConfig(
            **fields,
            **_head(plain),
            dropout=dropout,
            pad_id=tokenizer.pad_id,
            start_id=tokenizer.start_id,
            end_id=tokenizer.end_id,
            mask_id=tokenizer.mask_id,
        )
    except RecipeError as error:
        raise CheckpointError(str(error).removesuffix(".")) from error


def _head(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that depend on the task."""
    architectures = plain.get("architectures")
    if architectures == ["BertForPreTraining"]:
        return {"task": "fill_mask", "next_sentence": True, "num_texts": 2}
    if not isinstance(architectures, list) or len(architectures) != 1 or architectures[0] not in _TASKS:
        raise CheckpointError(
            f"architectures is {architectures!r}; tfzoo reads one of {', '.join([*_TASKS, 'BertForPreTraining'])}"
        )
    task = _TASKS[architectures[0]]
    if task == "question_answering":
        return {"task": task, "num_texts": 2}
    if task not in ("text_classification", "token_classification"):
        return {"task": task}
    labels = _labels(plain)
    if task == "token_classification":
        return {"task": task, "labels": labels}
    return {"task": task, "num_texts": plain.get("num_texts", 1), **_problem(plain.get("problem_type"), labels)}


def _labels(plain: Mapping[str, Any]) -> tuple[str, ...]:
    names = plain.get("id2label")
    if names is None:
        return tuple(f"LABEL_{i}" for i in range(plain.get("num_labels", 2)))
    try:
        return tuple(names[str(i)] for i in range(len(names)))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"id2label is {names!r}, and must name the labels by id, from 0 up") from error


def _problem(problem_type: Any, labels: tuple[str, ...]) -> dict[str, Any]:
    """The problem that transformers takes it for, which it decides by the labels where nothing is said."""
    if problem_type == "regression" or (problem_type is None and len(labels) == 1):
        if len(labels) != 1:
            raise CheckpointError(
                f"problem_type is 'regression' with {len(labels)} labels, and this BERT has one number"
            )
        return {"problem": "regression"}
    problems = {theirs: ours for ours, theirs in BERT_PROBLEMS.items()} | {None: "single_label"}
    if problem_type not in problems:
        raise CheckpointError(
            f"problem_type is {problem_type!r}, and must be one of {', '.join(BERT_PROBLEMS.values())}, or null"
        )
    return {"problem": problems[problem_type], "labels": labels}


def recipe(name: str, config: BertConfig) -> Recipe:
    """Returns a recipe to train such a model further; its numbers are those of `tfzoo.recipes.bert`."""
    return further(name, config, learning_rate=3e-5)
