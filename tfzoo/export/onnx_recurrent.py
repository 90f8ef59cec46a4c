"""tf2onnx' missing conversion of an LSTM with the lengths of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx.graph import Graph, Node


def _lstm(graph: Graph, node: Node, name: str, args: Any, **_: Any) -> None:
    """Turns the `CudnnRNNV3` node that `tfzoo.layers.recurrent.as_one_operator` describes into ONNX' LSTM."""
    x, hidden, cell, _, lengths = node.input
    units = graph.get_shape(hidden)[-1]
    params = node.inputs[3].get_tensor_value(as_list=False).reshape(4 * units, -1)
    kernel, recurrent_kernel, biases = np.split(params, [-units - 2, -2], axis=1)
    weights = [
        graph.make_const(f"{name}/{part}", value[np.newaxis]).output[0]
        for part, value in (("W", kernel), ("R", recurrent_kernel), ("B", biases.T.ravel()))
    ]
    outputs = list(zip(node.output, node.output_shapes, node.output_dtypes, strict=True))
    graph.remove_node(node.name)
    lstm = graph.make_node(
        "LSTM", [x, *weights, lengths, hidden, cell], output_count=3, attr={"hidden_size": units}, name=f"{name}/lstm"
    )
    # The first output has an axis of directions: (T, 1, B, H).
    axis = graph.make_const(f"{name}/directions", np.array([1], np.int64)).output[0]
    for op_type, inputs, (output, shape, dtype) in zip(
        ("Squeeze", "Identity", "Identity"),
        ([lstm.output[0], axis], [lstm.output[1]], [lstm.output[2]]),
        outputs,
        strict=False,  # what follows is of use to cuDNN alone
    ):
        graph.make_node(op_type, inputs, outputs=[output], shapes=[shape], dtypes=[dtype])


HANDLERS: dict[str, tuple[Any, list[str]]] = {"CudnnRNNV3": (_lstm, [])}
