"""Keras' optimizers, right for embeddings and for several replicas.

Keras hands its optimizers the gradient of an `Embedding` as `tf.IndexedSlices`, one row per looked-up token. Rows of
the same token must be added up before they are squared or their norm is taken; Keras' Adam and clipping do not do so.
Keras also clips each replica's gradient before the replicas are added up. The optimizers here densify first, and clip
what will be applied. They also have a learning rate for each variable, and spare some from weight decay, by names that
are saved with them. All else is Keras' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfzoo.training.config import TrainingConfig
from tfzoo.training.schedules import build_schedule

# Weights that are not decayed: they shift and scale, and do not grow with the number of inputs. Embeddings are decayed,
# as in the code of Devlin et al., 2019.
_NOT_DECAYED = ("bias", "gamma", "beta")


class _ByVariable:
    """Mixed into a Keras optimizer: densify, add up over replicas, then clip, in this order; then update each variable.

    `gradient_norm`: where a metric is put there, it takes note of the global norm before clipping.

    Args:
        *args: Keras' own.
        rate_multipliers: what the learning rate is multiplied by, for the variables in whose path a key stands, such as
            "block_0" in "bert/block_0/feed_forward/output/kernel"; weight decay goes with the rate. Others have 1.
        not_decayed: ends of the names, such as "bias", of variables that are spared from weight decay.
        **kwargs: Keras' own.

    Raises:
        ValueError: a key of `rate_multipliers` fits no variable, or several fit one; on `build`.
    """

    gradient_norm: keras.metrics.Mean | None = None

    def __init__(
        self,
        *args: Any,
        rate_multipliers: Mapping[str, float] | None = None,
        not_decayed: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rate_multipliers = dict(rate_multipliers or {})
        self.not_decayed = tuple(not_decayed)

    def build(self, variables: list[keras.Variable]) -> None:
        """Makes the optimizer's variables for those of a model."""
        super().build(variables)  # type: ignore[misc]
        self._multipliers, self._spared, used = {}, set(), set()
        for variable in variables:
            path = getattr(variable, "path", variable.name)
            keys = [key for key in self.rate_multipliers if f"/{key}/" in f"/{path}/"]
            if len(keys) > 1:
                raise ValueError(f"`rate_multipliers` has several keys for the variable {path!r}: {', '.join(keys)}.")
            used.update(keys)
            index = self._get_variable_index(variable)  # type: ignore[attr-defined]
            self._multipliers[index] = self.rate_multipliers[keys[0]] if keys else 1.0
            if path.rpartition("/")[2].endswith(self.not_decayed):
                self._spared.add(index)
        for key in self.rate_multipliers:
            if key not in used:
                raise ValueError(f"`rate_multipliers` names {key!r}, which is part of no variable's path.")

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable, at a rate of its own."""
        index = self._get_variable_index(variable)  # type: ignore[attr-defined]
        rate = learning_rate * self._multipliers[index]
        if self.weight_decay and self._use_weight_decay(variable):  # type: ignore[attr-defined]
            self.assign_sub(variable, variable * self.weight_decay * rate)  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Nothing: Keras calls this for all variables at one rate; `update_step` decays each at its own."""

    def _use_weight_decay(self, variable: tf.Variable) -> bool:
        index = self._get_variable_index(variable)  # type: ignore[attr-defined]
        return index not in self._spared and super()._use_weight_decay(variable)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"rate_multipliers": dict(self.rate_multipliers), "not_decayed": list(self.not_decayed)}
        return {**super().get_config(), **own}  # type: ignore[misc]

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
class Adam(_ByVariable, keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba, 2015) that is right with embeddings and replicas."""


@keras.saving.register_keras_serializable(package="tfzoo")
class AdamW(_ByVariable, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` (Loshchilov and Hutter, 2019) that is right with embeddings and replicas."""


@keras.saving.register_keras_serializable(package="tfzoo")
class SGD(_ByVariable, keras.optimizers.SGD):
    """`keras.optimizers.SGD` that is right with embeddings and replicas."""


def build_optimizer(config: TrainingConfig, rate_multipliers: Mapping[str, float] | None = None) -> Adam:
    """Returns Adam, or AdamW where `config.weight_decay` is above 0, with the moving average of the weights if any.

    Its name is fixed, because Keras puts it into the paths of its variables, by which checkpoints know them.

    Args:
        config: how to train.
        rate_multipliers: see `tfzoo.training.fine_tuning.rate_multipliers`.
    """
    arguments = {
        "learning_rate": build_schedule(config),
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "global_clipnorm": config.clip_norm or None,
        "use_ema": bool(config.ema_decay),
        "ema_momentum": config.ema_decay,
        "rate_multipliers": rate_multipliers,
        "name": "adam",
    }
    if not config.weight_decay:
        return Adam(**arguments)
    return AdamW(weight_decay=config.weight_decay, not_decayed=_NOT_DECAYED, **arguments)
