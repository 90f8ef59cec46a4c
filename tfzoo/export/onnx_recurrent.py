"""tf2onnx' missing conversion of an LSTM or a GRU with the lengths of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx.graph import Graph, Node

# Of each `rnn_mode`: ONNX' operator, its gates, and the attributes that make it ours.
_OPERATORS: dict[str, tuple[str, int, dict[str, int]]] = {
    "lstm": ("LSTM", 4, {}),
    "gru": ("GRU", 3, {"linear_before_reset": 1}),
}


def _recurrent(graph: Graph, node: Node, name: str, args: Any, **_: Any) -> None:
    """Turns the `CudnnRNNV3` node that `tfzoo.layers.recurrent.as_one_operator` describes into ONNX' LSTM or GRU."""
    operator, num_gates, attributes = _OPERATORS[node.get_attr_str("rnn_mode")]
    direction = node.get_attr_str("direction")
    num_directions = 2 if direction == "bidirectional" else 1
    x, hidden, cell, _, lengths = node.input
    units = graph.get_shape(hidden)[-1]
    params = node.inputs[3].get_tensor_value(as_list=False).reshape(num_directions, num_gates * units, -1)
    kernel, recurrent_kernel, biases = np.split(params, [-units - 2, -2], axis=2)
    biases = biases.transpose(0, 2, 1).reshape(num_directions, -1)
    weights = [
        graph.make_const(f"{name}/{part}", np.ascontiguousarray(value)).output[0]
        for part, value in (("W", kernel), ("R", recurrent_kernel), ("B", biases))
    ]
    states = [hidden, cell] if operator == "LSTM" else [hidden]
    outputs = list(zip(node.output, node.output_shapes, node.output_dtypes, strict=True))
    graph.remove_node(node.name)
    recurrent = graph.make_node(
        operator,
        [x, *weights, lengths, *states],
        output_count=1 + len(states),
        attr={"hidden_size": units, "direction": "forward" if num_directions == 1 else direction, **attributes},
        name=f"{name}/{operator.lower()}",
    )
    # The first output has an axis of directions, (T, N, B, H), where cuDNN has them side by side: (T, B, N H).
    y, shape, dtype = outputs[0]
    if num_directions == 1:
        axis = graph.make_const(f"{name}/directions", np.array([1], np.int64)).output[0]
        graph.make_node("Squeeze", [recurrent.output[0], axis], outputs=[y], shapes=[shape], dtypes=[dtype])
    else:
        by_row = graph.make_node("Transpose", [recurrent.output[0]], attr={"perm": [0, 2, 1, 3]}).output[0]
        side_by_side = graph.make_const(f"{name}/shape", np.array([0, 0, num_directions * units], np.int64)).output[0]
        graph.make_node("Reshape", [by_row, side_by_side], outputs=[y], shapes=[shape], dtypes=[dtype])
    for state, (output, shape, dtype) in zip(recurrent.output[1:], outputs[1:], strict=False):
        graph.make_node("Identity", [state], outputs=[output], shapes=[shape], dtypes=[dtype])


HANDLERS: dict[str, tuple[Any, list[str]]] = {"CudnnRNNV3": (_recurrent, [])}
