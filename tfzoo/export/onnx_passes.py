"""Rewrites of ONNX graphs that tf2onnx leaves slow or nameless."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

_SQUARE_ROOT_OF_2 = "square_root_of_2"


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields `graph` and every graph inside its Loop and If nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from subgraphs(attribute.g)


def count_operators(model: onnx.ModelProto) -> dict[str, int]:
    """Operator name -> number of nodes, with those inside loops and branches; "domain::name" outside ONNX' own."""
    counts = Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for graph in subgraphs(model.graph)
        for node in graph.node
    )
    return dict(sorted(counts.items()))


def name_axes(model: onnx.ModelProto, axes: dict[str, tuple[str | int, ...]]) -> None:
    """Gives each axis of the named inputs and outputs a name, or its fixed size.

    Args:
        model: changed in place.
        axes: input or output name -> one name or size for each axis.
    """
    for value in [*model.graph.input, *model.graph.output]:
        shape = value.type.tensor_type.shape
        shape.ClearField("dim")
        for axis in axes[value.name]:
            dim = shape.dim.add()
            if isinstance(axis, str):
                dim.dim_param = axis
            else:
                dim.dim_value = axis


def hoist_loop_invariants(graph: onnx.GraphProto) -> int:
    """Lets Loop bodies read what no iteration changes from the graph around them.

    tf2onnx carries every captured tensor, weights included, through the loop's state. ONNX Runtime then copies them at
    each iteration and cannot pre-pack them for its matrix products.

    Args:
        graph: changed in place, with all graphs inside it.

    Returns: the number of values moved.
    """
    hoisted = 0
    for outer in list(subgraphs(graph)):
        # What is read inside another loop or branch is used as well.
        used = {value.name for inner in subgraphs(outer) for value in inner.output}
        used |= {name for inner in subgraphs(outer) for node in inner.node for name in node.input}
        for node in outer.node:
            if node.op_type == "Loop":
                hoisted += _hoist(node, used)
    return hoisted


def _hoist(loop: onnx.NodeProto, used_outside: set[str]) -> int:
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    identity = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}

    def origin(name: str) -> str:
        while name in identity:
            name = identity[name]
        return name

    num_carried = len(loop.input) - 2  # after the trip count and the condition
    outer_names, kept = {}, []
    for index in range(num_carried):
        body_input, body_output = body.input[2 + index].name, body.output[1 + index].name
        if origin(body_output) == body_input and loop.output[index] not in used_outside:
            outer_names[body_input] = loop.input[2 + index]
        else:
            kept.append(index)
    if not outer_names:
        return 0

    def keep(values: list, before: int) -> list:
        """The first `before` values, the kept carried ones, and the scan outputs behind them."""
        return [*values[:before], *(values[before + index] for index in kept), *values[before + num_carried :]]

    for field, before in ((loop.input, 2), (loop.output, 0), (body.input, 2), (body.output, 1)):
        values = keep(list(field), before)
        del field[:]
        field.extend(values)
    _read_instead(body, outer_names)
    return len(outer_names)


def _read_instead(graph: onnx.GraphProto, new_names: dict[str, str]) -> None:
    for inner in subgraphs(graph):
        for node in inner.node:
            node.input[:] = [new_names.get(name, name) for name in node.input]
        # A body or a branch may hand the value straight through, even more than once.
        for name in sorted({value.name for value in inner.output} & new_names.keys()):
            inner.node.add(op_type="Identity", input=[new_names[name]], output=[name])


# A smaller one is a shape or an axis, and dearer to share than to repeat.
_SHARED_BYTES = 128


def share_initializers(graph: onnx.GraphProto) -> int:
    """Keeps one copy of equal weights, in the outermost graph.

    A weight that is used before a loop and inside it is otherwise in the file twice.

    Args:
        graph: changed in place, with all graphs inside it.

    Returns: the number of copies removed.
    """
    found: dict[tuple, list[tuple[onnx.GraphProto, onnx.TensorProto]]] = {}
    for inner in subgraphs(graph):
        for tensor in inner.initializer:
            value = numpy_helper.to_array(tensor)
            if value.nbytes >= _SHARED_BYTES:
                key = (tensor.data_type, value.shape, hashlib.sha256(value.tobytes()).digest())
                found.setdefault(key, []).append((inner, tensor))
    repeated = [copies for copies in found.values() if len(copies) > 1]
    for index, copies in enumerate(repeated):
        shared = onnx.TensorProto.FromString(copies[0][1].SerializeToString())
        shared.name = f"shared_{index}"
        for inner, tensor in copies:
            _read_instead(inner, {tensor.name: shared.name})
            inner.initializer.remove(tensor)
        graph.initializer.append(shared)
    return sum(len(copies) - 1 for copies in repeated)


def transpose_initializers(graph: onnx.GraphProto) -> int:
    """Keeps one copy of a matrix that is also there transposed, such as an embedding that is tied to the output.

    A converter that folds constants stores both. A runtime folds again when it loads: only the file is smaller.

    Args:
        graph: changed in place; the graphs inside it are left alone.

    Returns: the number of copies removed.
    """
    kept: dict[tuple, str] = {}
    nodes: list[onnx.NodeProto] = []
    for tensor in list(graph.initializer):
        if len(tensor.dims) != 2:
            continue
        value = numpy_helper.to_array(tensor)
        if value.nbytes < _SHARED_BYTES:
            continue
        original = kept.get((tensor.data_type, value.shape, hashlib.sha256(value.tobytes()).digest()))
        if original is None:
            kept[tensor.data_type, value.T.shape, hashlib.sha256(value.T.tobytes()).digest()] = tensor.name
            continue
        nodes.append(onnx.helper.make_node("Transpose", [original], [tensor.name], perm=[1, 0]))
        graph.initializer.remove(tensor)
    for node in reversed(nodes):
        graph.node.insert(0, node)
    return len(nodes)


def divide_before_erf(graph: onnx.GraphProto) -> int:
    """Divides by the square root of 2 before each Erf, where TensorFlow has made that a product with its inverse.

    ONNX Runtime takes x * (1 + Erf(x / sqrt(2))) / 2 for one operator, Gelu, and knows it by the division.

    Args:
        graph: changed in place, with all graphs inside it.

    Returns: the number of divisions.
    """
    factors = {
        tensor.name
        for inner in subgraphs(graph)
        for tensor in inner.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and not tensor.dims
        and np.isclose(numpy_helper.to_array(tensor), 0.5**0.5, rtol=1e-6, atol=0)
    }
    num_divisions = 0
    for inner in subgraphs(graph):
        before_erf = {node.input[0] for node in inner.node if node.op_type == "Erf"}
        for node in inner.node:
            others = [name for name in node.input if name not in factors]
            if node.op_type == "Mul" and node.output[0] in before_erf and len(others) == 1:
                node.op_type = "Div"
                node.input[:] = [*others, _SQUARE_ROOT_OF_2]
                num_divisions += 1
    if num_divisions:
        graph.initializer.append(numpy_helper.from_array(np.array(2**0.5, np.float32), _SQUARE_ROOT_OF_2))
    read = {name for inner in subgraphs(graph) for node in inner.node for name in node.input}
    for inner in subgraphs(graph):
        for tensor in [one for one in inner.initializer if one.name in factors - read]:
            inner.initializer.remove(tensor)  # ONNX Runtime would warn of it
    return num_divisions
