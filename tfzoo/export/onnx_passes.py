"""Rewrites of ONNX graphs that tf2onnx leaves slow or nameless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx


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
    for inner in subgraphs(body):
        for node in inner.node:
            node.input[:] = [outer_names.get(name, name) for name in node.input]
        # A body or a branch may hand the value straight through, even more than once.
        for name in sorted({value.name for value in inner.output} & outer_names.keys()):
            inner.node.add(op_type="Identity", input=[outer_names[name]], output=[name])
    return len(outer_names)
