"""Keras' optimizers, right for embeddings and for several replicas.

Keras hands its optimizers the gradient of an `Embedding` as `tf.IndexedSlices`, one row per looked-up token. Rows of
the same token must be added up before they are squared or their norm is taken; Keras' Adam and clipping do not do so.
Keras also clips each replica's gradient before the replicas are added up. The optimizers here densify first, and clip
what will be applied. All else, constructors included, is Keras' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from tfzoo.training.config import TrainingConfig
from tfzoo.training.schedules import build_schedule

# Weights that are not decayed: they shift and scale, and do not grow with the number of inputs.
_NOT_DECAYED = ("bias", "gamma", "beta")


class _SumThenClip:
    """Mixed into a Keras optimizer: densify, add up over replicas, then clip, in this order.

    `gradient_norm`: where a metric is put there, it takes note of the global norm before clipping.
    """

    gradient_norm: keras.metrics.Mean | None = None

    def apply(self, grads: Sequence[tf.Tensor | None], trainable_variables: Iterable | None = None) -> None:
        """Updates the variables, `grads` in the order of `trainable_variables`."""
        dense = [tf.convert_to_tensor(grad) if isinstance(grad, tf.IndexedSlices) else grad for grad in grads]
        super().apply(dense, trainable_variables)  # type: ignore[misc]

    def _clip_gradients(self, grads: list[tf.Tensor]) -> list[tf.Tensor]:
        # Keras calls this before the all-reduce; `_all_reduce_sum_gradients` does it after.
        return grads

    def _all_reduce_sum_gradients(self, grads_and_vars: Iterable) -> list[tuple[tf.Tensor, tf.Variable]]:
        grads, variables = zip(*super()._all_reduce_sum_gradients(grads_and_vars), strict=True)  # type: ignore[misc]
        if self.gradient_norm is not None:
            self.gradient_norm.update_state(tf.linalg.global_norm(grads))
        return list(zip(super()._clip_gradients(list(grads)), variables, strict=True))  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="tfzoo")
class Adam(_SumThenClip, keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba, 2015) that is right with embeddings and replicas."""


@keras.saving.register_keras_serializable(package="tfzoo")
class AdamW(_SumThenClip, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` (Loshchilov and Hutter, 2019) that is right with embeddings and replicas."""


@keras.saving.register_keras_serializable(package="tfzoo")
class SGD(_SumThenClip, keras.optimizers.SGD):
    """`keras.optimizers.SGD` that is right with embeddings and replicas."""


def build_optimizer(config: TrainingConfig) -> Adam:
    """Returns Adam, or AdamW where `config.weight_decay` is above 0, with the moving average of the weights if any.

    Its name is fixed, because Keras puts it into the paths of its variables, by which checkpoints know them.
    """
    arguments = {
        "learning_rate": build_schedule(config),
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "global_clipnorm": config.clip_norm or None,
        "use_ema": bool(config.ema_decay),
        "ema_momentum": config.ema_decay,
        "name": "adam",
    }
    if not config.weight_decay:
        return Adam(**arguments)
    optimizer = AdamW(weight_decay=config.weight_decay, **arguments)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer
