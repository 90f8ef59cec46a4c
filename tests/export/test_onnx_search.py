"""One search finds the nodes that tf2onnx' own many find."""

import inspect

import tensorflow as tf
from tf2onnx.graph import Graph

from tfzoo.export import onnx_search
from tfzoo.export.onnx import convert


def looped(x, other, steps):
    """A loop with several states, one of which nothing reads afterwards, and a branch that alone reads what it does."""

    def body(i, x, total, unread):
        read_by_a_branch = tf.sqrt(x)
        total = tf.cond(i > 1, lambda: total + read_by_a_branch, lambda: total * 3.0)
        return i + 1, tf.tanh(x) * 0.5, total, unread - 1.0

    _, x, total, _ = tf.while_loop(lambda i, *_: i < steps[0], body, (0, x, x * 2.0, x))
    return {"y": x, "total": total, "negated": -other}


def test_it_finds_what_tf2onnx_finds(monkeypatch):
    own, ours = Graph.extract_sub_graph_nodes, onnx_search.needed_nodes
    num_outputs = []

    def compared(graph, outputs_name, *arguments, **options):
        found = ours(graph, outputs_name, *arguments, **options)
        assert len(found) == len({*found})
        assert {*found} == {*own(graph, outputs_name, *arguments, **options)}
        num_outputs.append(len(outputs_name))
        return found

    monkeypatch.setattr(onnx_search, "needed_nodes", compared)
    floats, ints = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int32)
    convert(
        looped,
        {"x": floats, "other": floats, "steps": ints},
        {"x": ("n",), "other": ("m",), "steps": ("one",), "y": ("n",), "total": ("n",), "negated": ("m",)},
    )
    assert {1, 3, 6} <= {*num_outputs}  # the graphs of the branch, the whole, the loop
    assert Graph.extract_sub_graph_nodes is own


def test_it_is_asked_in_the_same_words():
    theirs, ours = (
        inspect.signature(one).parameters for one in (Graph.extract_sub_graph_nodes, onnx_search.needed_nodes)
    )
    assert [(one.name, one.default) for one in theirs.values()][1:] == [
        (one.name, one.default) for one in ours.values()
    ][1:]
