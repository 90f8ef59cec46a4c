"""Activations against their formulas, and that ONNX Runtime sees one operator."""

import math

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.export.onnx import convert
from tfzoo.layers.activations import gelu, gelu_tanh

X = np.linspace(-6, 6, 241, dtype=np.float32)[np.newaxis]


def exact_gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def test_gelu_follows_the_formula():
    expected = [exact_gelu(x) for x in X[0].tolist()]
    np.testing.assert_allclose(gelu(X)[0], expected, rtol=0, atol=tolerance("numpy_parity"))
    np.testing.assert_allclose(gelu(X), keras.activations.gelu(X), rtol=0, atol=1e-6)


def test_gelu_tanh_follows_the_formula():
    x = X.astype(np.float64)
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(gelu_tanh(X), expected, rtol=0, atol=tolerance("numpy_parity"))


def test_gelu_tanh_is_near_the_exact_function_and_not_it():
    exact = np.array([exact_gelu(x) for x in X[0].tolist()])
    assert 1e-4 < np.abs(gelu_tanh(X)[0] - exact).max() < 5e-4


@pytest.mark.parametrize("activation", [gelu, gelu_tanh])
def test_half_precision_is_kept(activation):
    assert activation(tf.constant([1.0], tf.bfloat16)).dtype == tf.bfloat16


@pytest.mark.parametrize(
    ("activation", "fused", "parts"),
    [(gelu, "Gelu", "Erf"), (gelu_tanh, "FastGelu", "Tanh")],
    ids=["gelu", "gelu_tanh"],
)
def test_onnx_runtime_sees_one_operator(activation, fused, parts, tmp_path):
    kernel = np.eye(241, dtype=np.float32)
    # Between two dense layers, as it is used: next to other arithmetic TensorFlow rewrites the formula.
    model = convert(
        lambda x: {"y": tf.matmul(activation(tf.matmul(x, kernel) + kernel[0]), kernel)},
        {"x": tf.TensorSpec((None, 241), tf.float32)},
        {"x": ("batch", 241), "y": ("batch", 241)},
    )
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that an optimized file suits this machine alone
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = activation(X + kernel[0])
    np.testing.assert_allclose(session.run(None, {"x": X})[0], expected, rtol=0, atol=tolerance("numpy_parity"))
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert fused in operators
    assert parts not in operators
