"""Activations against their formulas, and that ONNX Runtime sees one operator."""

import math

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.export.onnx import convert
from tfzoo.layers.activations import gelu_tanh

X = np.linspace(-6, 6, 241, dtype=np.float32)[np.newaxis]


def test_gelu_tanh_follows_the_formula():
    x = X.astype(np.float64)
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(gelu_tanh(X), expected, rtol=0, atol=tolerance("numpy_parity"))


def test_gelu_tanh_is_near_the_exact_function_and_not_it():
    exact = np.array([0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in X[0].tolist()])
    assert 1e-4 < np.abs(gelu_tanh(X)[0] - exact).max() < 5e-4


def test_gelu_tanh_keeps_half_precision():
    assert gelu_tanh(tf.constant([1.0], tf.bfloat16)).dtype == tf.bfloat16


def test_onnx_runtime_fuses_gelu_tanh(tmp_path):
    kernel = np.eye(241, dtype=np.float32)
    # Between two dense layers, as it is used: next to other arithmetic TensorFlow rewrites the formula.
    model = convert(
        lambda x: {"y": tf.matmul(gelu_tanh(tf.matmul(x, kernel) + kernel[0]), kernel)},
        {"x": tf.TensorSpec((None, 241), tf.float32)},
        {"x": ("batch", 241), "y": ("batch", 241)},
    )
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that an optimized file suits this machine alone
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = gelu_tanh(X + kernel[0])
    np.testing.assert_allclose(session.run(None, {"x": X})[0], expected, rtol=0, atol=tolerance("numpy_parity"))
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "FastGelu" in operators
    assert "Tanh" not in operators
