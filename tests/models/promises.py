"""What several models promise, stated once; `test_contract.py` holds every tiny entry of the zoo to the rest."""

import numpy as np
import tensorflow as tf

from tests.contract import weights
from tests.tolerances import tolerance


def randomized(model):
    """Gives a Transformer random weights everywhere, biases and scales included; equal ones at each call."""
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0, 0.4, variable.shape) + ("gamma" in variable.path))
    return model


def assert_equals_numpy(model, reference, inputs):
    """The logits of all real tokens are those of `reference.logits`, and not small by chance."""
    found, expected = model(inputs).numpy(), reference.logits(model.config, weights(model), inputs)
    if "padding_mask" in inputs:
        real = inputs["padding_mask"].astype(bool)
        found, expected = found[real], expected[real]
    scale = np.abs(expected).max()
    assert scale > 1
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance("numpy_parity"))


def assert_one_trace_serves_every_batch_and_length(model, inputs):
    """What is traced once answers as the model for (B, T), for less of both, and for one token of one row."""
    traces = []

    @tf.function(input_signature=[model.input_signature()], autograph=False)
    def forward(inputs):
        traces.append(1)
        return model(inputs)

    def assert_close(found, expected):
        np.testing.assert_allclose(found, expected, rtol=0, atol=10 * tolerance("cached_step"))

    for batch, length in ((None, None), (2, 3), (1, 1)):
        some = {name: value[:batch, :length] for name, value in inputs.items()}
        tf.nest.map_structure(assert_close, forward(some), model(some))
    assert len(traces) == 1
