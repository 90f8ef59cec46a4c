"""A tiny encoder for each task, and data that it can learn, addressed by step: token 7 decides."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tfzoo.models import Bert, BertConfig
from tfzoo.training import TrainingConfig, fit

BATCH, LENGTH, SPECIAL = 6, 9, 7
CONFIG = BertConfig(
    task="text_classification",
    labels=("without", "with"),
    vocabulary_size=23,
    hidden_dim=8,
    intermediate_dim=10,
    num_layers=2,
    num_heads=2,
    dropout=0.1,
    max_sequence_length=LENGTH,
    start_id=1,
    end_id=2,
    mask_id=3,
)
# Task as a test calls it -> what of the configuration differs.
TASKS = {
    "text_classification": {},
    "multi_label": {"problem": "multi_label", "labels": ("a", "b", "c")},
    "regression": {"problem": "regression", "labels": ()},
    "token_classification": {"task": "token_classification"},
    "question_answering": {"task": "question_answering", "labels": (), "num_texts": 2},
    "fill_mask": {"task": "fill_mask", "labels": ()},
    "next_sentence": {"task": "fill_mask", "labels": (), "num_texts": 2, "next_sentence": True},
    "text_embedding": {"task": "text_embedding", "labels": ()},
}


def new_model(task, seed=1, config=CONFIG, **kwargs):
    keras.utils.set_random_seed(seed)
    return Bert(dataclasses.replace(config, **TASKS[task]), **kwargs)


def config(**changes):
    numbers = {"num_steps": 4, "checkpoint_steps": 2, "learning_rate": 0.02, "warmup_steps": 1, "label_smoothing": 0.0}
    return TrainingConfig(**numbers | {"schedule": "linear"} | changes)


def batch(task, seed):
    """Inputs, labels and weights of a batch whose rows have 4 to 9 tokens."""
    generator = np.random.default_rng(seed)
    token_ids = generator.integers(4, 23, size=(BATCH, LENGTH)).astype(np.int32)
    rows = np.arange(BATCH)
    token_ids[rows % 2 == 0] = np.where(token_ids == SPECIAL, 8, token_ids)[rows % 2 == 0]
    token_ids[rows % 2 == 1, 1 + seed % 3] = SPECIAL
    token_ids[:, 0] = 1
    mask = np.arange(LENGTH) < generator.integers(4, LENGTH + 1, size=(BATCH, 1))
    inputs = {
        "token_ids": token_ids * mask,
        "padding_mask": mask.astype(np.int32),
        "segment_ids": (np.arange(LENGTH) >= 3) * mask.astype(np.int32),
    }
    has = ((inputs["token_ids"] == SPECIAL).any(axis=1)).astype(np.int32)
    per_row = generator.integers(1, 4, size=BATCH).astype(np.float32)
    if task == "text_classification":
        return inputs, has, per_row
    if task == "multi_label":
        return inputs, np.stack([has, 1 - has, has], axis=1).astype(np.float32), per_row
    if task == "regression":
        return inputs, 2.0 * has.astype(np.float32) - 1, per_row
    if task == "token_classification":
        return inputs, (inputs["token_ids"] == SPECIAL).astype(np.int32), mask.astype(np.float32)
    if task == "question_answering":
        where = np.argmax(inputs["token_ids"] == SPECIAL, axis=1)
        return inputs, np.stack([where, where], axis=1).astype(np.int32), np.ones((BATCH, 2), np.float32)
    if task == "text_embedding":
        first = inputs["token_ids"][: BATCH // 2]
        token_ids = np.concatenate([first, np.where(first > 15, 15, first)])
        pairs = {name: np.concatenate([value[: BATCH // 2]] * 2) for name, value in inputs.items()}
        partners = np.roll(np.arange(BATCH, dtype=np.int32), BATCH // 2)
        return pairs | {"token_ids": token_ids}, partners, np.ones(BATCH, np.float32)
    positions = np.stack([np.full(BATCH, 1), generator.integers(2, 4, size=BATCH)], axis=1).astype(np.int32)
    labels = np.take_along_axis(inputs["token_ids"], positions, axis=1)
    masked = inputs["token_ids"].copy()
    np.put_along_axis(masked, positions, 3, axis=1)
    weights = np.stack([np.ones(BATCH), rows % 2], axis=1).astype(np.float32)
    inputs = inputs | {"token_ids": masked, "mask_positions": positions}
    if task == "fill_mask":
        return inputs, labels, weights
    return (
        inputs,
        {"logits": labels, "next_sentence_logits": has},
        {"logits": weights, "next_sentence_logits": per_row},
    )


def batches(task, seeds):
    found = [batch(task, seed) for seed in seeds]
    stacked = tf.nest.map_structure(lambda *values: np.stack(values), *found)
    return tf.data.Dataset.from_tensor_slices(stacked)


def train_dataset(task, num_batches=16):
    return lambda start_step: batches(task, range(start_step % num_batches, num_batches)).concatenate(
        batches(task, range(num_batches)).repeat()
    )


def validation_dataset(task):
    return batches(task, range(100, 102))


def train(run_dir, task, model=None, **changes):
    """Trains a model for a task and returns it with its history."""
    model = model or new_model(task)
    history = fit(
        model,
        train_dataset(task),
        config(**changes),
        run_dir,
        validation_dataset=validation_dataset(task),
        verbose=0,
    )
    return model, history
