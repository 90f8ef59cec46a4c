"""The one table of tolerances: name -> (largest absolute difference, why it may not be smaller)."""

TOLERANCES: dict[str, tuple[float, str]] = {
    "numpy_parity": (1e-5, "float32 sums in another order than the NumPy forward; logits are of order 1"),
    "cached_step": (1e-5, "matrix products of other shapes sum in another order"),
    "pretrained": (1e-4, "6 layers whose residual stream grows to 10, in float32"),
    "padding": (1e-5, "masked positions add exact zeros, but matrix products of other shapes sum in another order"),
    "saved_model": (1e-6, "the same kernels; only constant folding differs"),
    "onnx_logits": (1e-4, "another runtime's kernels and fusions, through all layers"),
    "numpy_loss": (1e-6, "relative: one float32 scalar against NumPy in float64"),
    "numpy_optimizer": (1e-6, "24 float32 updates of weights of order 1 against NumPy in float64"),
    "bfloat16": (5e-3, "mean, relative to the largest logit: each result is rounded to 8 bits, 2 ** -9 of its size"),
    "recomputed": (1e-6, "the same operations; but TensorFlow adds a gradient's parts up in another order"),
    "twenty_steps": (1e-5, "as two_replicas, after twenty updates, of which Adam's divide by small numbers"),
    "weights_in_bfloat16": (2e-3, "beside float32, after twenty updates of 3e-3 by gradients of 8 bits"),
    "measured_in_bfloat16": (5e-3, "relative: a mean of numbers each of which is computed in 8 bits, of 2 ** -9"),
    "two_replicas": (1e-6, "gradients are summed over replicas in another order"),
}


def tolerance(name: str) -> float:
    """Returns the largest absolute difference that the comparison `name` allows."""
    return TOLERANCES[name][0]
