"""Small models of every family and batches for them, trained alike on any strategy.

Run as a program, with a folder as its argument, it is one of several workers and leaves the weights there.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfzoo
from tests.training import tiny
from tfzoo.models import config as configs
from tfzoo.training import TrainingConfig, fit, replicated
from tfzoo.training.losses import CrossEntropy
from tfzoo.training.metrics import NatsPerToken
from tfzoo.training.optimizers import SGD

NUM_STEPS = 20
MEASURED = ("loss", "nats_per_token", "gradient_norm")
V, FIRST_WORD = 37, 4
# Rows of each global batch: odd, so that two devices do not come out even.
ROWS = 5
SPECIAL = {"vocabulary_size": V, "pad_id": 0, "start_id": 1, "end_id": 2, "max_sequence_length": 11}
ATTENTION = {"hidden_dim": 6, "intermediate_dim": 10, "num_layers": 1, "num_heads": 2}
RECURRENT = {"embedding_dim": 5, "hidden_dim": 6, "num_layers": 1}


def _of_language(generator: np.random.Generator, length: int) -> tuple[Any, ...]:
    tokens = generator.integers(FIRST_WORD, V, (ROWS, length + 1))
    real = np.arange(length) < generator.integers(1, length + 1, (ROWS, 1))
    return {"token_ids": tokens[:, :-1], "padding_mask": real}, tokens[:, 1:], real.astype(np.float32)


def _of_pairs(generator: np.random.Generator, length: int) -> tuple[Any, ...]:
    tokens = generator.integers(FIRST_WORD, V, (3, ROWS, length))
    source, real = (np.arange(length) < generator.integers(1, length + 1, (ROWS, 1)) for _ in range(2))
    inputs = {"encoder_token_ids": tokens[0] * source, "decoder_token_ids": tokens[1] * real}
    return inputs, tokens[2] * real, real.astype(np.float32)


def _of_masks_and_sentences(generator: np.random.Generator, length: int) -> tuple[Any, ...]:
    inputs, _, _ = _of_language(generator, length)
    positions = generator.integers(0, length, (ROWS, 2))
    inputs |= {"segment_ids": np.arange(length) * np.ones((ROWS, 1), int) >= 2, "mask_positions": positions}
    labels = {
        "logits": generator.integers(FIRST_WORD, V, (ROWS, 2)),
        "next_sentence_logits": generator.integers(0, 2, ROWS),
    }
    weights = {
        "logits": (generator.random((ROWS, 2)) < 0.7).astype(np.float32),
        "next_sentence_logits": np.ones(ROWS, np.float32),
    }
    return inputs, labels, weights


@dataclasses.dataclass(frozen=True)
class Family:
    """A model and its batches.

    Args:
        model: makes it, with dropout of that probability.
        batch: (generator, length) -> inputs, labels and weights.
    """

    model: Callable[[float], keras.Model]
    batch: Callable[[np.random.Generator, int], tuple[Any, ...]]

    def dataset(self, start: int) -> tf.data.Dataset:
        """The batches of all devices from one on, no two lengths next to each other the same."""
        batches = (self.batch(np.random.default_rng(step), 3 + step % 3) for step in range(start, NUM_STEPS))
        datasets = [
            tf.data.Dataset.from_tensors(tf.nest.map_structure(as_tensor, batch)).map(_of_any_length)
            for batch in batches
        ]
        return tf.data.Dataset.from_tensor_slices(datasets).flat_map(lambda one: one).repeat()


FAMILIES = {
    "lstm_lm": Family(
        lambda p: tfzoo.models.LstmLanguageModel(
            configs.LstmLmConfig(**SPECIAL, **RECURRENT, dropout=p, weight_drop=p)
        ),
        _of_language,
    ),
    "gpt2": Family(lambda p: tfzoo.models.GPT2(configs.GPT2Config(**SPECIAL, **ATTENTION, dropout=p)), _of_language),
    "gru_seq2seq": Family(
        lambda p: tfzoo.models.GruSeq2Seq(configs.GruSeq2SeqConfig(**SPECIAL, **RECURRENT, dropout=p)), _of_pairs
    ),
    "transformer": Family(
        lambda p: tfzoo.models.Transformer(configs.TransformerConfig(**SPECIAL, **ATTENTION, dropout=p)), _of_pairs
    ),
    "bert": Family(
        lambda p: tfzoo.models.Bert(
            configs.BertConfig(**SPECIAL, **ATTENTION, dropout=p, mask_id=3, num_texts=2, next_sentence=True)
        ),
        _of_masks_and_sentences,
    ),
}


def as_tensor(array: np.ndarray) -> tf.Tensor:
    return tf.constant(array if array.dtype == np.float32 else array.astype(np.int32))


def _of_any_length(*batch: Any) -> Any:
    def blur(tensor: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.reshape(tensor, tf.shape(tensor) + 0), [None] * len(tensor.shape))

    return tf.nest.map_structure(blur, batch)


def training_config(optimizer: str, learning_rate: float | None = None, **changes: Any) -> TrainingConfig:
    return TrainingConfig(
        num_steps=NUM_STEPS,
        checkpoint_steps=NUM_STEPS,
        optimizer=optimizer,
        learning_rate=learning_rate or {"sgd": 0.3, "adam": 3e-3}[optimizer],
        warmup_steps=0,
        schedule="linear",
        # Far below the gradients of the first steps, which are near 1.
        clip_norm=0.1,
        # AdamW, which divides what is nothing but rounding, such as the gradient of a key's bias, by this and not by
        # itself.
        weight_decay=0.1 if optimizer == "adam" else 0.0,
        epsilon=1e-4,
        **changes,
    )


def trained(
    strategy: tf.distribute.Strategy, family: str, optimizer: str, precision: str = "float32"
) -> dict[str, np.ndarray]:
    """Trains on a strategy: path of each variable -> value, and what the last record measured.

    In another precision than float32 what is within a block is computed again for the gradient, too.
    """
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(precision)
    with strategy.scope():
        model = FAMILIES[family].model(0.0)
    keras.config.set_dtype_policy("float32")
    config = training_config(optimizer, precision=precision, recompute=precision != "float32")
    with tempfile.TemporaryDirectory() as run_dir:
        history = fit(model, FAMILIES[family].dataset, config, run_dir, verbose=0)
    measured = {name: np.array(history[-1][name]) for name in MEASURED}
    weights = {variable.path.partition("/")[2]: variable.numpy() for variable in model.trainable_variables}
    return weights | measured


def trained_by_keras(strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """Trains the tiny model by plain `compile` and `fit`."""
    with strategy.scope():
        model = tiny.new_model(dropout=0.0)
        model.compile(optimizer=SGD(0.5), loss=CrossEntropy(), weighted_metrics=[NatsPerToken()], jit_compile=False)
    with replicated(model):
        history = model.fit(tiny.train_dataset(0), epochs=2, steps_per_epoch=3, shuffle=False, verbose=0).history
    measured = {name: np.array(values) for name, values in history.items()}
    return measured | {variable.path: variable.numpy() for variable in model.trainable_variables}


def main(directory: Path, *subjects: str) -> None:
    """Trains subjects, FAMILY:OPTIMIZER[:PRECISION] each, and leaves SUBJECT-WORKER.npz and keras-WORKER.npz.

    In the names of files "-" stands for ":".
    """
    strategy = tfzoo.training.strategy("multi_worker")
    index = tfzoo.training.replicas.Workers(strategy).index
    np.savez(directory / f"keras-{index}.npz", **trained_by_keras(strategy))
    for subject in subjects:
        name = subject.replace(":", "-")
        np.savez(directory / f"{name}-{index}.npz", **trained(strategy, *subject.split(":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
