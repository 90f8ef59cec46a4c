"""What share of a machine a training run uses: its model's operations against the best rate measured, and memory.

Model FLOPs utilisation (Chowdhery et al., 2022, appendix B, https://arxiv.org/abs/2204.02311): the operations that the
model needs, whatever the training repeats or leaves idle, by those that the machine could do in the time. Only matrix
products count, a multiply-add as two, and the backward pass as two forward passes, also where layers are frozen.

Differs from the paper: the peak is not the maker's number but the best rate of one large product in the precision of
the model, measured once a process; and padding is work, of which `padding_share` says how much there is.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfzoo.models.config import GPT2Config, GruSeq2SeqConfig, LstmLmConfig, ModelConfig, TransformerConfig

# A product that takes so long is large enough to keep a machine busy; none is larger than that.
_ENOUGH_SECONDS, _LARGEST = 0.005, 8192


def forward_flops(config: Any, batch_size: Any, length: Any, *, source_length: Any = 0, num_scored: Any = None) -> Any:
    """Returns the floating point operations of one forward pass, for whole numbers or tensors.

    Args:
        config: a model's.
        batch_size: B.
        length: T, in tokens.
        source_length: of an encoder-decoder S, in tokens.
        num_scored: of BERT for masked tokens how many tokens of each row are scored; None = all.
    """
    if isinstance(config, LstmLmConfig):
        return batch_size * length * _lstm_lm_token(config)
    if isinstance(config, GruSeq2SeqConfig):
        return _gru_seq2seq(config, batch_size, length, source_length)
    dim, tokens = config.hidden_dim, batch_size * length
    square = 2 * dim * dim  # one projection of one token
    feed_forward = 2 * 2 * dim * config.intermediate_dim
    block = tokens * (4 * square + 4 * length * dim + feed_forward)
    logits = 2 * dim * config.vocabulary_size
    if isinstance(config, TransformerConfig):
        source = batch_size * source_length
        encoder = source * (4 * square + 4 * source_length * dim + feed_forward)
        # Keys and values of the source are projected once for every decoder block.
        cross = tokens * (2 * square + 4 * source_length * dim) + source * 2 * square
        return config.num_layers * (encoder + block + cross) + tokens * logits
    if isinstance(config, GPT2Config):
        return config.num_layers * block + tokens * logits
    # What other heads than that for masked tokens compute is next to nothing.
    scored = (batch_size * (length if num_scored is None else num_scored)) * (config.task == "fill_mask")
    return config.num_layers * block + scored * (square + logits)


def _recurrent_token(num_gates: int, dim: int, hidden_dim: int) -> int:
    return 2 * num_gates * hidden_dim * (dim + hidden_dim)


def _lstm_lm_token(config: LstmLmConfig) -> int:
    widths = [config.embedding_dim] + [config.hidden_dim] * config.num_layers
    if config.tie_embeddings:
        widths[-1] = config.embedding_dim
    layers = sum(_recurrent_token(4, *pair) for pair in itertools.pairwise(widths))
    return layers + 2 * widths[-1] * config.vocabulary_size


def _gru_seq2seq(config: GruSeq2SeqConfig, batch_size: Any, length: Any, source_length: Any) -> Any:
    embedded, dim = config.embedding_dim, config.hidden_dim
    num_directions, num_above = 1 + config.bidirectional, config.num_layers - 1
    memory = num_directions * dim
    attends, summary = config.attention != "none", dim if config.input_feeding else 0
    context = memory if attends else summary
    # Of a row, of a token of the source, of a pair of a source and a target token.
    row = config.num_layers * 2 * memory * dim * config.bidirectional
    source = num_directions * (_recurrent_token(3, embedded, dim) + num_above * _recurrent_token(3, memory, dim))
    source += attends * 2 * memory * dim
    pair = attends * 2 * (dim + memory)
    # Of a token of the target: what it asks the source and what the logits come from, then the layers and the logits.
    fed, width = dim, dim
    if config.attention == "multiplicative":
        target = 2 * (memory + dim) * dim
    else:
        target = 2 * (dim + embedded + context) * dim if context else 0
        width = dim // 2 if context else dim
    if config.attention == "additive":
        target += 2 * dim * dim
        fed = memory
    first = embedded + (fed if config.input_feeding else 0)
    target += _recurrent_token(3, first, dim) + num_above * _recurrent_token(3, dim, dim)
    target += 2 * width * config.vocabulary_size
    return batch_size * (row + source_length * (source + length * pair) + length * target)


@contextlib.contextmanager
def work_counted(model: keras.Model, flops: keras.metrics.Sum) -> Iterator[None]:
    """Within, `flops` takes the operations, in units of 1e9, of each batch that a compiled model is trained on.

    Args:
        model: whose batches; one that is not tfzoo's counts nothing.
        flops: what takes note.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, ModelConfig):
        yield
        return
    compute_metrics = model.compute_metrics

    def count(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        sizes = {name: tf.cast(tf.shape(value), "float32") for name, value in x.items()}
        batch_size, length = tf.unstack(sizes.get("decoder_token_ids", sizes.get("token_ids")), num=2)
        forward = forward_flops(
            config,
            batch_size,
            length,
            source_length=sizes["encoder_token_ids"][1] if "encoder_token_ids" in sizes else 0,
            num_scored=sizes["mask_positions"][1] if "mask_positions" in sizes else None,
        )
        flops.update_state(3 * forward / 1e9)
        return compute_metrics(x, y, y_pred, sample_weight)

    model.compute_metrics = count
    try:
        yield
    finally:
        model.compute_metrics = compute_metrics


def utilisation(model: keras.Model, flops: float, seconds: float) -> dict[str, float]:
    """Returns `flops_utilisation`, in [0, 1] but for noise, where work was counted; several GPUs share it.

    Args:
        model: the one that was trained.
        flops: what `work_counted` counted.
        seconds: how long that took.
    """
    if not flops:
        return {}
    num_devices = model.distribute_strategy.num_replicas_in_sync if tf.config.list_logical_devices("GPU") else 1
    return {"flops_utilisation": 1e9 * flops / seconds / (num_devices * peak_flops_per_second(model.compute_dtype))}


@functools.cache
def peak_flops_per_second(dtype: str = "float32") -> float:
    """Returns the best rate of a square matrix product that is large enough, measured once a process in some 0.05 s.

    Args:
        dtype: of the factors.
    """
    size = 128
    while product_seconds(size, dtype, 1) < _ENOUGH_SECONDS and size < _LARGEST:
        size *= 2
    return 2 * size**3 / product_seconds(size, dtype, 3)


def product_seconds(size: int, dtype: str, repetitions: int) -> float:
    """Returns the least time of a (size, size) matrix product, of so many after one that does not count."""
    matrix = tf.cast(tf.random.stateless_normal((size, size), seed=(0, 0)), dtype)
    seconds = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        # To read one element waits for the product, on a GPU too.
        tf.linalg.matmul(matrix, matrix)[0, 0].numpy()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def memory() -> dict[str, float]:
    """Returns the most bytes that this process has had: `peak_memory_bytes`, and on GPUs `peak_gpu_memory_bytes`."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_memory_bytes": float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)}
    gpus = [device.name.partition("device:")[2] for device in tf.config.list_logical_devices("GPU")]
    if gpus:
        found["peak_gpu_memory_bytes"] = float(sum(tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus))
    return found
