"""A gated recurrent unit over a whole sequence (Cho et al., 2014), in one direction or both (Schuster & Paliwal, 1997).

With gates z (update), r (reset) and candidate n, each token x and the state h give

    z, r = sigmoid(x @ kernel + bias + h @ recurrent_kernel + recurrent_bias), two parts of three
    n = tanh(x @ kernel + bias + r * (h @ recurrent_kernel + recurrent_bias)), the third
    h' = z * h + (1 - z) * n

The reset gate acts behind the matrix product, as in the first version of the paper (https://arxiv.org/abs/1406.1078v1),
cuDNN, PyTorch and ONNX with `linear_before_reset`; in the last version it acts before. `kernel` (D, 3H),
`recurrent_kernel` (H, 3H) and the biases (3H,) hold z, r, n side by side: Keras' order. It differs from
`keras.layers.GRU(reset_after=True)` as our `LSTM` does from Keras': a row's padding is skipped by its length, all
inputs are multiplied before the loop over time, and gates and states are float32 under every dtype policy.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfzoo.layers.recurrent import is_one_operator, state_after
from tfzoo.layers.scan import scan

_WEIGHTS = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")


@keras.saving.register_keras_serializable("tfzoo")
class GRU(keras.layers.Layer):
    """One GRU layer.

    Kernels start at Glorot's uniform distribution, recurrent kernels at orthogonal matrices, biases at 0.

    Args:
        units: H, width of the state in one direction.
        bidirectional: whether a second GRU reads each row from its last real token to its first. N is 2, else 1.

    Call arguments:
        x: (B, T, D) float, T at least 1.
        hidden: (B, N H) float, the state before the first token: of the forward direction, then of the backward one.
        padding_mask: (B, T) int, 1 = real token, padded on the right; a row may be all padding. None = all real.

    Returns: y (B, T, N H) in the compute dtype, of no meaning at padding; hidden (B, N H) float32 after each row's last
        real token, which backward is its first.
    """

    def __init__(self, units: int, bidirectional: bool = False, **kwargs: Any) -> None:
        # The state stays float32: rounded to bfloat16 at each step, it forgets small changes.
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.bidirectional = bidirectional

    def build(self, *input_shapes: Any) -> None:
        dim, width = input_shapes[0][-1], 3 * self.units
        shapes = dict(zip(_WEIGHTS, [(dim, width), (self.units, width), (width,), (width,)], strict=True))
        initializers = {"kernel": "glorot_uniform", "recurrent_kernel": "orthogonal"}
        self.directions = [
            {
                name: self.add_weight(
                    name=prefix + name,
                    shape=shape,
                    initializer=initializers[name] if name in initializers else "zeros",
                    autocast=False,
                )
                for name, shape in shapes.items()
            }
            for prefix in (("", "backward_") if self.bidirectional else ("",))
        ]

    def call(self, x: Any, hidden: Any, padding_mask: Any = None) -> tuple[Any, Any]:
        x, hidden = (ops.cast(value, "float32") for value in (x, hidden))
        lengths = None if padding_mask is None else ops.sum(ops.cast(padding_mask, "int32"), axis=1)
        y, hidden = (self._one_operator if is_one_operator() else self._loop)(x, hidden, lengths)
        return ops.cast(y, self.compute_dtype), hidden

    def _loop(self, x: Any, hidden: Any, lengths: Any) -> tuple[Any, Any]:
        weights = [{name: tf.convert_to_tensor(value) for name, value in one.items()} for one in self.directions]
        read = [x, _reversed(x, lengths)][: len(weights)]
        inputs = [
            ops.matmul(ops.transpose(value, (1, 0, 2)), one["kernel"]) + one["bias"]  # (T, B, 3H)
            for value, one in zip(read, weights, strict=True)
        ]

        def advance(inputs: list[Any], state: list[Any]) -> tuple[list[Any], list[Any]]:
            state = [_cell(*each) for each in zip(inputs, state, weights, strict=True)]
            return state, state

        before = tf.split(hidden, len(weights), axis=1)
        states, last = scan(advance, inputs, before, [tf.TensorSpec(value.shape) for value in before])  # (T, B, H) each
        if lengths is not None:
            last = [state_after(lengths, *each) for each in zip(before, states, strict=True)]
        y = [ops.transpose(value, (1, 0, 2)) for value in states]
        y[1:] = [_reversed(value, lengths) for value in y[1:]]
        return ops.concatenate(y, axis=2), ops.concatenate(last, axis=1)

    def _one_operator(self, x: Any, hidden: Any, lengths: Any) -> tuple[Any, Any]:
        with tf.init_scope():  # NumPy: a captured eager tensor would become an input of the graph
            weights = [[ops.convert_to_numpy(one[name]) for name in _WEIGHTS] for one in self.directions]
        params = [
            np.concatenate([kernel, recurrent_kernel, [bias], [recurrent_bias]]).T
            for kernel, recurrent_kernel, bias, recurrent_bias in weights
        ]
        all_tokens = tf.fill([tf.shape(x)[0]], tf.shape(x)[1])
        result = tf.raw_ops.CudnnRNNV3(
            input=ops.transpose(x, (1, 0, 2)),
            # A search's loop forgets H.
            input_h=tf.ensure_shape(tf.stack(tf.split(hidden, len(weights), axis=1)), [None, None, self.units]),
            input_c=tf.zeros([0]),
            params=np.stack(params).ravel(),
            sequence_lengths=all_tokens if lengths is None else lengths,
            rnn_mode="gru",
            direction="bidirectional" if self.bidirectional else "unidirectional",
            is_training=False,
            time_major=True,
        )
        y = tf.ensure_shape(ops.transpose(result.output, (1, 0, 2)), [None, None, len(weights) * self.units])
        after = tf.concat(
            [tf.ensure_shape(result.output_h[i], [None, self.units]) for i in range(len(weights))], axis=1
        )
        if lengths is None:
            return y, after
        # ONNX Runtime returns zeros as the state of a row without tokens.
        return y, tf.where(tf.expand_dims(lengths > 0, 1), after, hidden)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "bidirectional": self.bidirectional}


def _cell(inputs: Any, hidden: Any, weights: dict[str, Any]) -> Any:
    z, r, n = tf.split(inputs, 3, axis=1)
    recurrent = tf.matmul(hidden, weights["recurrent_kernel"]) + weights["recurrent_bias"]
    recurrent_z, recurrent_r, recurrent_n = tf.split(recurrent, 3, axis=1)
    z, r = tf.sigmoid(z + recurrent_z), tf.sigmoid(r + recurrent_r)
    return z * hidden + (1.0 - z) * tf.tanh(n + r * recurrent_n)


def _reversed(x: Any, lengths: Any) -> Any:
    """(B, T, D) with the real tokens of each row in reverse order, and its padding still behind them."""
    return tf.reverse(x, axis=[1]) if lengths is None else tf.reverse_sequence(x, lengths, seq_axis=1)
