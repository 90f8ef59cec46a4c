"""One search where tf2onnx takes many: which nodes of a graph its outputs need.

tf2onnx asks this after each of its rewrites, and searches the whole graph from each output anew. The loop of a decoder
has two outputs for each layer, so that the time grew with the square of the layers: half of a conversion at 12.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from tf2onnx.graph import Graph, Node


def needed_nodes(
    graph: Graph,
    outputs_name: Sequence[str],
    input_checker: Callable[[Node], bool] | None = None,
    remove_unused_inputs: bool = True,
) -> list[Node]:
    """Answers as tf2onnx' `Graph.extract_sub_graph_nodes`, whose place it takes.

    Args:
        graph: an ONNX graph under conversion.
        outputs_name: the tensors to start from.
        input_checker: says of a node whether it is searched; None = all are.
        remove_unused_inputs: whether inputs that no output needs are left out.

    Returns: the nodes, in any order.
    """
    names = [*outputs_name]
    if not remove_unused_inputs:
        names += [node.output[0] for node in graph.inputs]
    found: set[Node] = set()
    while names:
        # None for what is not of this graph: an optional input left empty, or a tensor of the graph around it.
        node = graph.get_node_by_output(names.pop(), search_in_parent_graphs=False)
        if node is None or node in found or (input_checker and input_checker(node) is False):
            continue
        found.add(node)
        names += [*node.input, *node.get_implicit_inputs()]
    return [*found]


@contextlib.contextmanager
def one_search() -> Iterator[None]:
    """Within, tf2onnx searches by `needed_nodes`."""
    own = Graph.extract_sub_graph_nodes
    Graph.extract_sub_graph_nodes = needed_nodes
    try:
        yield
    finally:
        Graph.extract_sub_graph_nodes = own
