"""Layer normalization in the form that ONNX Runtime recognises as one operator."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfzoo")
class LayerNormalization(keras.layers.Layer):
    """Normalizes the last axis to mean 0 and variance 1, then scales and shifts (Ba et al., 2016).

    The same function as `keras.layers.LayerNormalization`, written with `pow(d, 2.0)` and one division: ONNX Runtime
    fuses this spelling into its LayerNormalization kernel and leaves Keras' own as nine separate operators.

    Args:
        epsilon: added to the variance.

    Call arguments:
        x: (..., D) float.

    Returns: (..., D) float.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, x: Any) -> Any:
        x32 = ops.cast(x, "float32")  # variance in half precision loses the small differences
        deviation = x32 - ops.mean(x32, axis=-1, keepdims=True)
        variance = ops.mean(ops.power(deviation, 2.0), axis=-1, keepdims=True)
        normal = deviation / ops.sqrt(variance + self.epsilon)
        return ops.cast(normal * ops.cast(self.gamma, "float32") + ops.cast(self.beta, "float32"), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
