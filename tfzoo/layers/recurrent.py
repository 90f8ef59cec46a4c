"""A long short-term memory over a whole sequence (Hochreiter & Schmidhuber, 1997; Gers et al., 2000).

With gates i (input), f (forget), c (candidate) and o (output), each token x and the state (hidden h, cell s) give

    i, f, c, o = split(x @ kernel + h @ recurrent_kernel + bias, 4)
    s' = sigmoid(f) * s + sigmoid(i) * tanh(c)
    h' = sigmoid(o) * tanh(s')

which is Zaremba et al., 2014, section 3, and Keras' order of gates: `kernel` (D, 4H), `recurrent_kernel` (H, 4H) and
`bias` (4H,) hold i, f, c, o side by side. It differs from `keras.layers.LSTM` in what a language model needs: a row's
padding is skipped by its length, all inputs are multiplied before the loop over time, gates and states are float32
under every dtype policy, and recurrent weights can be dropped.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfzoo.layers.scan import scan

_traced_as_one_operator = contextvars.ContextVar("tfzoo_as_one_operator", default=False)

# Gates in ONNX' order i, o, f, c, as positions in ours.
_ONNX_GATES = (0, 3, 1, 2)


@contextlib.contextmanager
def as_one_operator() -> Iterator[None]:
    """Within it, a traced `LSTM` or `GRU` is one `CudnnRNNV3` node, for a graph that is converted and never run.

    A converter sees one operator with the rows' lengths, where it would otherwise see a loop over time. The node's
    `params` are not cuDNN's but, flat, (N, G H, D + H + 2) for N directions and G gates: kernel, recurrent kernel and
    two biases side by side, and the gates one below the other, in the order of ONNX: i, o, f, c, or z, r, h.
    """
    token = _traced_as_one_operator.set(True)
    try:
        yield
    finally:
        _traced_as_one_operator.reset(token)


def is_one_operator() -> bool:
    """Whether this code runs within `as_one_operator`."""
    return _traced_as_one_operator.get()


def state_after(lengths: Any, before: Any, states: Any) -> Any:
    """The state of each row after its own number of tokens.

    Args:
        lengths: (B,) int32; after no token a state is what it was.
        before: (B, H), the state before the first token.
        states: (T, B, H), the state after each token.

    Returns: (B, H).
    """
    places = tf.stack([lengths, tf.range(tf.shape(before)[0])], axis=1)
    return tf.gather_nd(tf.concat([tf.expand_dims(before, 0), states], axis=0), places)


@keras.saving.register_keras_serializable("tfzoo")
class LSTM(keras.layers.Layer):
    """One LSTM layer.

    The forget gate's bias starts at 1 (Jozefowicz et al., 2015, section 2.2), the kernel at Glorot's uniform
    distribution and the recurrent kernel at an orthogonal matrix.

    Args:
        units: H, width of the state.
        weight_drop: probability in [0, 1) that a recurrent weight is 0 in training, the same for all tokens and rows of
            one call (DropConnect: Merity et al., 2017, section 2).

    Call arguments:
        x: (B, T, D) float, T at least 1.
        hidden: (B, H) float, the state before the first token.
        cell: (B, H) float, the state before the first token.
        padding_mask: (B, T) int, 1 = real token, padded on the right; a row may be all padding. None = all real.

    Returns: y (B, T, H) in the compute dtype, of no meaning at padding; hidden and cell (B, H) float32 after each row's
        last real token.
    """

    def __init__(self, units: int, weight_drop: float = 0.0, **kwargs: Any) -> None:
        # The states stay float32: rounded to bfloat16 at each step, a cell forgets small changes.
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.weight_drop = weight_drop
        self.seed_generator = keras.random.SeedGenerator() if weight_drop else None

    def build(self, *input_shapes: Any) -> None:
        dim = input_shapes[0][-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(dim, 4 * self.units), initializer="glorot_uniform", autocast=False
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, 4 * self.units), initializer="orthogonal", autocast=False
        )
        self.bias = self.add_weight(name="bias", shape=(4 * self.units,), initializer=_forget_nothing, autocast=False)

    def call(
        self, x: Any, hidden: Any, cell: Any, padding_mask: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        x, hidden, cell = (ops.cast(value, "float32") for value in (x, hidden, cell))
        lengths = None if padding_mask is None else ops.sum(ops.cast(padding_mask, "int32"), axis=1)
        run = self._one_operator if is_one_operator() else self._loop
        y, hidden, cell = run(x, hidden, cell, lengths, training)
        return ops.cast(y, self.compute_dtype), hidden, cell

    def _loop(self, x: Any, hidden: Any, cell: Any, lengths: Any, training: bool) -> tuple[Any, Any, Any]:
        recurrent_kernel = tf.convert_to_tensor(self.recurrent_kernel)
        if training and self.seed_generator is not None:
            recurrent_kernel = keras.random.dropout(recurrent_kernel, self.weight_drop, seed=self.seed_generator)
        inputs = ops.matmul(ops.transpose(x, (1, 0, 2)), self.kernel) + self.bias  # (T, B, 4H)

        def advance(inputs: list[Any], state: list[Any]) -> tuple[list[Any], list[Any]]:
            hidden, cell = state
            i, f, c, o = tf.split(inputs[0] + tf.matmul(hidden, recurrent_kernel), 4, axis=1)
            cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(c)
            state = [tf.sigmoid(o) * tf.tanh(cell), cell]
            return state, state

        states, _ = scan(advance, [inputs], [hidden, cell], [tf.TensorSpec(hidden.shape)] * 2)  # (T, B, H) each
        y = ops.transpose(states[0], (1, 0, 2))
        if lengths is None:
            return y, states[0][-1], states[1][-1]
        hidden, cell = (
            state_after(lengths, before, after) for before, after in zip((hidden, cell), states, strict=True)
        )
        return y, hidden, cell

    def _one_operator(self, x: Any, hidden: Any, cell: Any, lengths: Any, training: bool) -> tuple[Any, Any, Any]:
        with tf.init_scope():  # NumPy: a captured eager tensor would become an input of the graph
            weights = [ops.convert_to_numpy(value) for value in (self.kernel, self.recurrent_kernel, self.bias)]
        kernel, recurrent_kernel, bias = (
            np.concatenate([np.split(value, 4, axis=-1)[gate] for gate in _ONNX_GATES], axis=-1) for value in weights
        )
        bias = np.stack([bias, np.zeros_like(bias)])
        all_tokens = tf.fill([tf.shape(x)[0]], tf.shape(x)[1])
        result = tf.raw_ops.CudnnRNNV3(
            input=ops.transpose(x, (1, 0, 2)),
            input_h=tf.ensure_shape(tf.expand_dims(hidden, 0), [1, None, self.units]),  # a search's loop forgets H
            input_c=tf.expand_dims(cell, 0),
            params=np.concatenate([kernel, recurrent_kernel, bias]).T.ravel(),
            sequence_lengths=all_tokens if lengths is None else lengths,
            rnn_mode="lstm",
            is_training=training,
            time_major=True,
        )
        y = tf.ensure_shape(ops.transpose(result.output, (1, 0, 2)), [None, None, self.units])
        after = [tf.ensure_shape(value[0], [None, self.units]) for value in (result.output_h, result.output_c)]
        if lengths is None:
            return y, *after
        # ONNX Runtime returns zeros as the state of a row without tokens.
        moved = tf.expand_dims(lengths > 0, 1)
        return y, tf.where(moved, after[0], hidden), tf.where(moved, after[1], cell)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "weight_drop": self.weight_drop}


def _forget_nothing(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """Zeros, and ones for the forget gate: the second of four."""
    return ops.repeat(ops.convert_to_tensor([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)


@keras.saving.register_keras_serializable("tfzoo")
class CarriedState(keras.layers.Layer):
    """The state of a training stream, from one batch to the next.

    Like a dropout's random state it belongs to the training and not to the trained model: it is among `.variables`, so
    that a checkpoint resumes it, and neither among `.weights` nor in a `.keras` file.

    Args:
        num_rows: B, rows of every batch.
        widths: H of each layer.

    Raises:
        ValueError: under a strategy with several devices, each of which would need rows of its own.
    """

    def __init__(self, num_rows: int, widths: list[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        num_devices = tf.distribute.get_strategy().num_replicas_in_sync
        if num_devices > 1:
            raise ValueError(
                f"`carried_batch_size` needs a single device; received carried_batch_size={num_rows} on {num_devices} "
                "devices. Pass None and batches that do not continue each other."
            )
        self.num_rows = num_rows
        self.widths = list(widths)

    def build(self, input_shape: Any = None) -> None:
        self.states = {
            f"{kind}_{i}": self.add_weight(
                name=f"{kind}_{i}", shape=(self.num_rows, width), initializer="zeros", trainable=False, autocast=False
            )
            for i, width in enumerate(self.widths)
            for kind in ("hidden", "cell")
        }

    @property
    def weights(self) -> list[keras.Variable]:
        """None, see above."""
        return []

    def save_own_variables(self, store: Any) -> None:
        """Saves nothing."""

    def load_own_variables(self, store: Any) -> None:
        """Loads nothing."""

    def read(self, continues: Any) -> dict[str, Any]:
        """(B,) int, 1 = the row goes on -> `hidden_i` and `cell_i`, zeros in the other rows."""
        goes_on = ops.expand_dims(ops.cast(continues, "float32"), 1)
        return {name: ops.convert_to_tensor(state) * goes_on for name, state in self.states.items()}

    def write(self, states: dict[str, Any]) -> None:
        """Keeps what `read` gives next; a variable's history ends there, so no gradient reaches the batch before."""
        for name, value in states.items():
            self.states[name].assign(value)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_rows": self.num_rows, "widths": self.widths}
