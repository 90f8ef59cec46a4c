"""Scheduled sampling (Bengio et al., 2015, https://arxiv.org/abs/1506.03099, section 2.4).

A decoder that always learns from the true target never sees its own mistakes. Here it reads, token by token, its own
prediction instead of the true token with probability 1 - ratio. No gradient flows through a prediction, which is a
choice; so the tokens are chosen first, and the training step then reads them as it reads any target, all at once where
the model can. Differs from the paper: while it chooses, dropout is off, and a prediction is the likeliest token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.scan import scan

Ratio: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable("tfzoo")
class ScheduledSampling(keras.layers.Layer):
    """Chooses what a decoder reads in training.

    Args:
        ratio: probability in [0, 1] that a token is the true one; or a schedule, which gives it by the number of
            batches that were chosen for before this one.

    Call arguments:
        token_ids: (B, T) int32, the true target; its first token is always read.
        step: as the `step` of a model; its states have the same shapes before and after it.
        state: what `step` begins from.

    Returns: (B, T) int32.

    Raises:
        ValueError: `ratio` is out of its range.
    """

    def __init__(self, ratio: Ratio, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(ratio, (int, float)) and not 0 <= ratio <= 1:
            raise ValueError(f"`teacher_forcing_ratio` must be in [0, 1]; received teacher_forcing_ratio={ratio}.")
        self.ratio = ratio
        # Of Keras' states, [seed, number of draws], the second counts the batches; checkpoints resume it with the seed.
        self.seed_generator = keras.random.SeedGenerator()

    def call(
        self, token_ids: Any, step: Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]], state: dict[str, Any]
    ) -> Any:
        token_ids = ops.cast(token_ids, "int32")
        ratio = self.ratio
        if not isinstance(ratio, (int, float)):
            ratio = ops.cast(ratio(ops.cast(self.seed_generator.state[1], "float32")), "float32")
        true = ops.transpose(token_ids)  # (T, B)
        is_read = keras.random.uniform(ops.shape(true), seed=self.seed_generator) < ratio
        memory = {name: value for name, value in state.items() if name.startswith("memory_")}

        def advance(inputs: list[Any], carried: tuple[Any, dict[str, Any]]) -> tuple[list[Any], Any]:
            (true, is_read), (predicted, changing) = inputs, carried
            read = tf.where(is_read | (predicted < 0), true, predicted)
            logits, state = step(tf.expand_dims(read, 1), memory | changing)
            predicted = tf.argmax(logits[:, 0], axis=-1, output_type=tf.int32)
            return [read], (predicted, {name: state[name] for name in changing})

        nothing = tf.fill([tf.shape(true)[1]], -1)
        changing = {name: value for name, value in state.items() if name not in memory}
        (read,), _ = scan(advance, [true, is_read], (nothing, changing), [tf.TensorSpec(true.shape[1:], tf.int32)])
        return tf.stop_gradient(ops.transpose(read))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ratio": keras.saving.serialize_keras_object(self.ratio)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScheduledSampling:
        return cls(**{**config, "ratio": keras.saving.deserialize_keras_object(config["ratio"])})
