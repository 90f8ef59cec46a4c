"""Model and tokenizer -> one folder for TF Serving, ONNX Runtime and Hugging Face's tools, proved before it exists.

The artifact is written into a hidden folder beside its place and renamed when every format has been proved. What is
not proved leaves nothing behind.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.errors import UsageError, nearest
from tfzoo.export import manifest as manifests
from tfzoo.export import onnx_text, serving_rules
from tfzoo.export.golden import record
from tfzoo.export.huggingface import config_files, fit_tokenizers
from tfzoo.export.model_card import model_card
from tfzoo.export.onnx_graphs import write_onnx
from tfzoo.export.saved_model import write_saved_model
from tfzoo.export.sentence_transformers import write_pooling
from tfzoo.export.serving_kit import MODEL_NAME, write_serving_kit
from tfzoo.export.tokenizer_vectors import write_vectors
from tfzoo.export.verify import probes, prove
from tfzoo.folders import new_folder
from tfzoo.models.config import BertConfig, ModelConfig
from tfzoo.runtime.artifact import FORMAT_VERSION
from tfzoo.runtime.encoder import ENCODER_TASKS
from tfzoo.runtime.head import Head, Text, checked_text
from tfzoo.runtime.keras import keras_backend
from tfzoo.runtime.loaded import predictor_of
from tfzoo.text import Tokenizer, TokenizerPair, pair
from tfzoo.text.special_tokens import BERT_MASK
from tfzoo.text.word_piece import WordPieceTokenizer

FORMATS = ("saved_model", "onnx")
ALL_FORMATS = (*FORMATS, onnx_text.FORMAT)
NUM_SEGMENTS = 2  # that BERT tells apart
NUM_TEXTS = 5  # that the golden answers are recorded for, and an empty one


def export(
    model: keras.Model,
    tokenizer: Tokenizer | tuple[Tokenizer, Tokenizer] | TokenizerPair,
    output_dir: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
    *,
    decoding: DecodingConfig | AnswerConfig | None = None,
    recipe: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    texts: Sequence[Text] = (),
) -> dict[str, Any]:
    """Exports a model and proves each format equal to it.

    Args:
        model: a zoo model with trained weights.
        tokenizer: the shared tokenizer, (source, target), or a pair.
        output_dir: the artifact's folder; must be absent or empty. Its name is the model's name on a server.
        formats: some of `FORMATS`, and with "onnx" also "onnx_text", see `tfzoo.export.onnx_text`.
        decoding: how the default signature searches; None = `DecodingConfig()` within the model's length, or
            `AnswerConfig()` for "question_answering"; a model for another task of an encoder takes None alone.
        recipe: recorded in the manifest.
        metrics: recorded in the manifest and on the model card.
        texts: inputs of the model's kind, for the proof, (text_a, text_b) for a model of two texts; none = random ones.

    Returns: the manifest.

    Raises:
        UsageError: an unknown format, a folder that is not empty, or a tokenizer or decoding options that do not fit
            the model.
        ArtifactError: the model does not convert.
        ArtifactMismatch: a format answers otherwise than the model.
    """
    tokenizer = pair(tokenizer)
    output_dir = Path(output_dir)
    head = Head.of(model.config)
    if decoding is None and model.task not in ENCODER_TASKS:
        decoding = DecodingConfig(max_length=min(DecodingConfig().max_length, head.max_length))
    elif decoding is None and model.task == "question_answering":
        decoding = AnswerConfig()
    _check_arguments(model, tokenizer, output_dir, formats, decoding)
    _check_json(recipe=recipe, metrics=metrics)
    if isinstance(decoding, DecodingConfig):
        decoding = dataclasses.replace(decoding, num_return_sequences=1)  # a served default answers with one
    texts = [checked_text(text, head.num_texts) for text in texts[:NUM_TEXTS]]
    model = _in_float32(model)

    with new_folder(output_dir, "output_dir") as aside:
        return _build(aside, output_dir.name, model, tokenizer, formats, decoding, recipe, metrics, texts)


def _build(
    directory: Path,
    name: str,
    model: keras.Model,
    tokenizer: TokenizerPair,
    formats: Sequence[str],
    decoding: DecodingConfig | AnswerConfig | None,
    recipe: dict[str, Any] | None,
    metrics: dict[str, Any] | None,
    texts: Sequence[Text],
) -> dict[str, Any]:
    tokenizer.save(directory)
    fit_tokenizers(directory, model.config.max_sequence_length, model.task)
    spelt = [one for text in texts for one in ([text] if isinstance(text, str) else text)]
    tokenizers = write_vectors(directory, tokenizer, spelt)
    for file_name, content in config_files(_served_config(model.config), decoding).items():
        manifests.write_json(directory / file_name, content)
    if model.task == "text_embedding":
        write_pooling(directory, model.config.hidden_dim)
    if "saved_model" in formats:
        logging.info("writing the SavedModel")
        write_saved_model(model, tokenizer, decoding, os.fspath(directory))
        serving_rules.check_graph(directory)
    if "onnx" in formats:
        logging.info("writing the ONNX graphs")
        write_onnx(model, os.fspath(directory))
    if onnx_text.FORMAT in formats:
        onnx_text.write_onnx_text(directory, Head.of(model.config), tokenizer.source)

    logging.info("proving %s", ", ".join(formats))
    config, head = model.config, Head.of(model.config)
    reference = predictor_of(keras_backend(model, tokenizer), tokenizer, head, decoding)
    counts = _token_id_counts(model)
    inputs = probes(counts, config.max_sequence_length, config.pad_id)
    golden_texts = _golden_texts(texts or _random_texts(tokenizer, head), head)
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "task": model.task,
        "formats": [name for name in formats if name in FORMATS],
        "num_parameters": model.count_params(),
        "token_id_counts": counts,
        "tokenizers": tokenizers,
        "max_length": config.max_sequence_length,
        "pad_id": config.pad_id,
        "end_id": config.end_id,
        "prompt_suffix": tokenizer.prompt_suffix,
        "head": {"num_texts": head.num_texts, "labels": list(head.labels), "problem": head.problem},
        "decoding": _as_json(decoding),
        "recipe": recipe,
        "metrics": metrics or {},
        "versions": manifests.package_versions(),
        **manifests.describe_formats(directory, tuple(formats)),
        "golden": record(reference, inputs, golden_texts),
    }
    if "saved_model" in formats:
        write_serving_kit(directory, manifest)
    manifest["proof"] = prove(directory, manifest, reference, inputs)
    (directory / "README.md").write_text(model_card(manifest), encoding="utf-8")
    manifest["variables"] = manifests.variable_digests(model)
    manifest["weights"] = manifests.weight_digests(directory)
    manifest["files"] = manifests.file_digests(directory)
    manifests.write_manifest(directory, manifest)
    return manifest


def _served_config(config: ModelConfig) -> ModelConfig:
    """Without the head that only pretraining needs, which no format has."""
    if isinstance(config, BertConfig) and config.next_sentence:
        return dataclasses.replace(config, next_sentence=False, num_texts=1)
    return config


def _check_arguments(
    model: keras.Model,
    tokenizer: TokenizerPair,
    output_dir: Path,
    formats: Sequence[str],
    decoding: DecodingConfig | AnswerConfig | None,
) -> None:
    if isinstance(formats, str) or not formats:
        raise UsageError(f"`formats` must be a sequence of {', '.join(ALL_FORMATS)}; received formats={formats!r}.")
    for name in formats:
        if name not in ALL_FORMATS:
            raise UsageError(
                f"`formats` knows {', '.join(ALL_FORMATS)}; received {name!r}.{nearest(name, ALL_FORMATS)}"
            )
    if onnx_text.FORMAT in formats:
        onnx_text.check_request(Head.of(model.config), formats)
    if output_dir.name in ("", ".."):
        raise UsageError(
            f"`output_dir` {output_dir} has no name, which would be the model's; name a new folder, such as "
            f"{output_dir / 'my_model'}."
        )
    if "saved_model" in formats and not MODEL_NAME.fullmatch(output_dir.name):
        raise UsageError(
            f"`output_dir` names the model on a server, which takes letters, digits, '.', '_' and '-'; "
            f"received {output_dir.name!r}. Choose another folder name."
        )
    expected: type = DecodingConfig if model.task not in ENCODER_TASKS else type(None)
    if model.task == "question_answering":
        expected = AnswerConfig
    if not isinstance(decoding, expected):
        raise UsageError(
            f"`decoding` of a model for {model.task!r} must be {expected.__name__.replace('NoneType', 'None')}; "
            f"received {decoding!r}."
        )
    length_field = "window_length" if isinstance(decoding, AnswerConfig) else "max_length"
    if decoding is not None and getattr(decoding, length_field) > model.config.max_sequence_length:
        raise UsageError(
            "`decoding` must not have more tokens than the model has positions; received "
            f"{length_field}={getattr(decoding, length_field)}, "
            f"max_sequence_length={model.config.max_sequence_length}."
        )
    if model.task in ENCODER_TASKS and not isinstance(tokenizer.source, WordPieceTokenizer):
        raise UsageError(
            f"`tokenizer` does not fit the model: one for {model.task!r} reads the pieces of a WordPieceTokenizer; "
            f"received a {type(tokenizer.source).__name__}. Pass the tokenizer that the model was trained with."
        )
    counts = [count for name, count in _token_id_counts(model).items() if name.endswith("token_ids")]
    sizes = {
        "source": (tokenizer.source.vocabulary_size, counts[0]),
        "target": (tokenizer.target.vocabulary_size, counts[-1]),
    }
    for side, (num_ids, num_embedded) in sizes.items():
        if num_ids != num_embedded:
            raise UsageError(
                f"`tokenizer` does not fit the model: its {side} side has {num_ids} ids, "
                f"the model embeds {num_embedded}. Pass the tokenizer that the model was trained with."
            )
        for name in ("pad_id", "start_id", "end_id", *(["mask_id"] if model.task in ENCODER_TASKS else [])):
            if getattr(getattr(tokenizer, side), name) != getattr(model.config, name):
                raise UsageError(
                    f"`tokenizer` does not fit the model: its {side} side has {name}="
                    f"{getattr(getattr(tokenizer, side), name)}, the model {name}={getattr(model.config, name)}."
                )


def _token_id_counts(model: keras.Model) -> dict[str, int]:
    """Input name -> number of ids that it may hold."""
    counts = {name: model.config.vocabulary_size for name in model.input_signature() if name.endswith("token_ids")}
    if model.task == "seq2seq" and model.config.source_vocabulary_size is not None:
        counts["encoder_token_ids"] = model.config.source_vocabulary_size
    if "segment_ids" in model.input_signature():
        counts["segment_ids"] = NUM_SEGMENTS
    return counts


def _as_json(decoding: DecodingConfig | AnswerConfig | None) -> dict[str, Any] | None:
    """The options as JSON gives them back."""
    if decoding is None:
        return None
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(decoding).items()
    }


def _check_json(**arguments: Any) -> None:
    for name, value in arguments.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"`{name}` goes into the manifest as JSON, which cannot hold it: {error}.") from error


def _in_float32(model: keras.Model) -> keras.Model:
    """The same weights computed in float32: half precision is for training, and few runtimes have it on a CPU."""
    if model.compute_dtype == "float32":
        return model
    clone = type(model)(model.config, name=model.name, dtype="float32")
    clone.set_weights(model.get_weights())
    return clone


def _random_texts(tokenizer: TokenizerPair, head: Head) -> list[Text]:
    random = np.random.default_rng(0)

    def text(length: int) -> str:
        made = tokenizer.source.decode(random.integers(0, tokenizer.source.vocabulary_size, length).tolist())
        return f"{made} {BERT_MASK}" if head.task == "fill_mask" else made

    lengths = np.linspace(1, min(head.max_length, 40), NUM_TEXTS, dtype=int)
    return [text(length) if head.num_texts == 1 else (text(length), text(length)) for length in lengths]


def _golden_texts(texts: Sequence[Text], head: Head) -> list[Text]:
    """The texts, and an empty one; of a model that fills masks, a mask alone."""
    if head.num_texts == 2:
        return [*texts, ("", "")]
    return [*texts, BERT_MASK if head.task == "fill_mask" else ""]
