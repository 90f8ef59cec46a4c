"""Optimizers that are right for embeddings and for several replicas: Adam, AdamW, SGD, LAMB and Adafactor.

Keras hands its optimizers the gradient of an `Embedding` as `tf.IndexedSlices`, one row per looked-up token. Rows of
the same token must be added up before they are squared or their norm is taken; Keras' Adam and clipping do not do so.
Keras also clips each replica's gradient before the replicas are added up. The optimizers here densify first, and clip
what will be applied. They also have a learning rate for each variable, and spare some from weight decay, by names that
are saved with them. All else of Adam, AdamW and SGD is Keras' own.

LAMB (You et al., 2020, https://arxiv.org/abs/1904.00962) and Adafactor (Shazeer and Stern, 2018,
https://arxiv.org/abs/1804.04235) differ from Keras': LAMB's weight decay counts in its trust ratio, as in algorithm 2
of the paper; Adafactor keeps no second moment of a matrix beside its factors, which is what it is for.
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
        rate = self._rate(variable, learning_rate)
        if self.weight_decay and self._use_weight_decay(variable):  # type: ignore[attr-defined]
            self.assign_sub(variable, variable * self.weight_decay * rate)  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def _rate(self, variable: tf.Variable, learning_rate: tf.Tensor) -> tf.Tensor:
        return learning_rate * self._multipliers[self._get_variable_index(variable)]  # type: ignore[attr-defined]

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


@keras.saving.register_keras_serializable(package="tfzoo")
class Lamb(_ByVariable, keras.optimizers.Lamb):
    """LAMB (You et al., 2020, algorithm 2): Adam whose step is as long as `learning_rate` times the variable itself.

    Differs from `keras.optimizers.Lamb`, which subtracts weight decay besides: here it is part of the step whose length
    is set. Its other arguments are Keras'.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable, at a rate of its own."""
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        self.assign(momentum, self.beta_1 * momentum + (1 - self.beta_1) * gradient)
        self.assign(velocity, self.beta_2 * velocity + (1 - self.beta_2) * tf.square(gradient))
        num_updates = tf.cast(self.iterations + 1, variable.dtype)
        unbiased = tf.sqrt(velocity / (1 - tf.pow(self.beta_2, num_updates)))
        step = momentum / (1 - tf.pow(self.beta_1, num_updates)) / (unbiased + self.epsilon)
        if self.weight_decay and self._use_weight_decay(variable):
            step += self.weight_decay * variable
        # Of length 0 a variable, such as a new bias, would stay there.
        lengths = tf.norm(variable), tf.norm(step)
        trust = tf.where(tf.reduce_min(lengths) > 0, tf.math.divide_no_nan(*lengths), 1.0)
        self.assign_sub(variable, self._rate(variable, learning_rate) * trust * step)


@keras.saving.register_keras_serializable(package="tfzoo")
class Adafactor(_ByVariable, keras.optimizers.Optimizer):
    """Adafactor without momentum (Shazeer and Stern, 2018, algorithms 4 and 5): n + m numbers for an (n, m) matrix.

    Differs from `keras.optimizers.Adafactor`, which keeps all n * m second moments besides; whose step is 0 / 0 where
    a row and a column without gradient meet, as of a token that was not looked up; and which never steps further than
    1 / sqrt(t). The paper's rate is `InverseSquareRoot(peak=0.01, warmup_steps=10_000)`, of which it has no warm-up.

    Args:
        learning_rate: of the root mean square of each variable: 0.01 moves its elements by about a hundredth of it.
        epsilon_1: added to each squared gradient.
        epsilon_2: least root mean square that a variable counts with, so that what starts at 0 moves.
        clip_threshold: largest root mean square of a variable's step, before the rate.
        decay_exponent: the second moment after t updates decays by 1 - t ** decay_exponent; below 0.
        rate_multipliers: see `Adam`.
        not_decayed: see `Adam`.
        **kwargs: those of every optimizer of Keras, such as `weight_decay` and `global_clipnorm`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        decay_exponent: float = -0.8,
        name: str = "adafactor",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.decay_exponent = decay_exponent

    def build(self, variables: list[keras.Variable]) -> None:
        """Makes the optimizer's variables for those of a model."""
        if self.built:
            return
        super().build(variables)
        # Of each variable the means over its last axis and over the one before; of one without two axes, all.
        self._moments = [list(map(self._zeros, *self._moments_of(variable))) for variable in variables]

    def _moments_of(self, variable: keras.Variable) -> tuple[list[tuple[int, ...]], list[str]]:
        path, shape = getattr(variable, "path", variable.name).replace("/", "_"), tuple(variable.shape)
        if len(shape) < 2:
            return [shape], [f"{path}_velocity"]
        return [shape[:-1], (*shape[:-2], shape[-1])], [f"{path}_rows", f"{path}_columns"]

    def _zeros(self, shape: tuple[int, ...], name: str) -> keras.Variable:
        return self.add_variable(shape, initializer="zeros", name=name)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable, at a rate of its own."""
        rate = self._rate(variable, learning_rate)
        if self.weight_decay and self._use_weight_decay(variable):
            self.assign_sub(variable, variable * self.weight_decay * rate)
        decay = 1 - tf.pow(tf.cast(self.iterations + 1, "float32"), self.decay_exponent)
        square = tf.square(gradient) + self.epsilon_1
        moments = self._moments[self._get_variable_index(variable)]
        means = [square] if len(moments) == 1 else [tf.reduce_mean(square, -1), tf.reduce_mean(square, -2)]
        for moment, mean in zip(moments, means, strict=True):
            self.assign(moment, decay * moment + (1 - decay) * mean)
        if len(moments) == 1:
            step = gradient * tf.math.rsqrt(tf.convert_to_tensor(moments[0]))
        else:
            rows, columns = map(tf.convert_to_tensor, moments)
            # One factor after the other: the product of two small ones would be 0, and the step 0 / 0.
            step = gradient * tf.expand_dims(tf.math.rsqrt(rows / tf.reduce_mean(rows, -1, keepdims=True)), -1)
            step *= tf.expand_dims(tf.math.rsqrt(columns), -2)
        step /= tf.maximum(1.0, _root_mean_square(step) / self.clip_threshold)
        self.assign_sub(variable, rate * tf.maximum(self.epsilon_2, _root_mean_square(variable)) * step)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = ("epsilon_1", "epsilon_2", "clip_threshold", "decay_exponent")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _root_mean_square(x: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(x)))


def build_optimizer(
    config: TrainingConfig, rate_multipliers: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a run, with weight decay and the moving average of the weights if any.

    Its name is fixed, because Keras puts it into the paths of its variables, by which checkpoints know them.

    Args:
        config: how to train.
        rate_multipliers: see `tfzoo.training.fine_tuning.rate_multipliers`.
    """
    arguments = {
        "learning_rate": build_schedule(config),
        "global_clipnorm": config.clip_norm or None,
        "use_ema": bool(config.ema_decay),
        "ema_momentum": config.ema_decay,
        "rate_multipliers": rate_multipliers,
        "name": config.optimizer,
    }
    if config.weight_decay:
        arguments |= {"weight_decay": config.weight_decay, "not_decayed": _NOT_DECAYED}
    if config.optimizer == "sgd":
        return SGD(momentum=config.momentum, **arguments)
    if config.optimizer == "adafactor":
        return Adafactor(**arguments)
    arguments |= {"beta_2": config.beta_2, "epsilon": config.epsilon}
    if config.optimizer == "lamb":
        return Lamb(**arguments)
    return AdamW(**arguments) if config.weight_decay else Adam(**arguments)
