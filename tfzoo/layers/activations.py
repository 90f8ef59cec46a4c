"""Activation functions by name, in the forms that ONNX Runtime recognises as one operator."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


def gelu(x: Any) -> Any:
    """The Gaussian error linear unit (Hendrycks & Gimpel, 2016, section 2): x times the normal distribution up to x.

    Written with `erf`, which ONNX has; Keras' own becomes `Erfc`, which it has not.

    Args:
        x: (...) float.

    Returns: (...) float.
    """
    return 0.5 * x * (1.0 + ops.erf(x / math.sqrt(2)))


def gelu_tanh(x: Any) -> Any:
    """The Gaussian error linear unit by its tanh approximation (Hendrycks & Gimpel, 2016, section 2).

    GPT-2 was trained with the approximation, which differs from the exact function by up to 5e-4. Written with
    `pow(x, 3.0)`, which ONNX Runtime fuses.

    Args:
        x: (...) float.

    Returns: (...) float.
    """
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * ops.power(x, 3.0))
    return 0.5 * x * (1.0 + ops.tanh(inner))


ACTIVATIONS = {"relu": keras.activations.relu, "gelu": gelu, "gelu_tanh": gelu_tanh, "swish": keras.activations.silu}
"""Name of an activation, as a layer's config has it -> the function."""
