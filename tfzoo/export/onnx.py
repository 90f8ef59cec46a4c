"""Keras model -> ONNX graphs at opset 18.

tf2onnx writes a file for a graph that no runtime accepts and reports success. Here an operator that it cannot convert
raises, the graph goes through the checker, and only operators of an allow-list may remain. That the file computes what
the model computes is for `verify` to prove.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx
from tf2onnx import optimizer as tf2onnx_optimizer
from tf2onnx import tf_loader

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.errors import ArtifactError, one_line
from tfzoo.export.onnx_passes import (
    count_operators,
    divide_before_erf,
    hoist_loop_invariants,
    name_axes,
    share_initializers,
    transpose_initializers,
)
from tfzoo.export.onnx_recurrent import HANDLERS
from tfzoo.export.onnx_search import one_search
from tfzoo.export.quiet import only_errors
from tfzoo.layers.recurrent import as_one_operator

OPSET = 18

# What ONNX Runtime runs on CPU and in the browser, and what our models and search loops consist of.
ALLOWED_OPERATORS = frozenset(
    """Add And Cast Concat ConstantOfShape CumSum Div Equal Erf Expand Gather GatherElements GatherND Gemm Greater
    GreaterOrEqual GRU Identity If LSTM Less LessOrEqual LogSoftmax Loop MatMul Max Min Mod Mul Neg Not Or Pad Pow Range
    ReduceMax ReduceMean ReduceSum Relu Reshape ScatterND Shape Sigmoid Slice Softmax Split Sqrt Squeeze Sub Tanh Tile
    TopK Transpose Unsqueeze Where""".split()
)

# tf2onnx' rewrites, less those for operators that we do not use, which cost a quarter of a conversion, and less
# "remove_back_to_back": it drops the first of two Reshapes although a 0 in the second one's shape refers to the first.
OPTIMIZERS = (
    "optimize_transpose",
    "fold_constants",
    "loop_optimizer",
    "merge_duplication",
    "reshape_optimizer",
    "remove_identity",
)

# Hugging Face's callers bind ids and masks as int64, and transformers.js casts nothing. generate.onnx is ours alone and
# keeps int32, which JavaScript has without BigInt.
HUGGING_FACE_IDS = tf.TensorSpec((None, None), tf.int64)
IDS = tf.TensorSpec((None, None), tf.int32)

Axes = dict[str, tuple[str | int, ...]]

# Of the options and results of generate.onnx.
SEARCH_AXES: Axes = {
    **dict.fromkeys(ROW_OPTIONS, ("batch",)),
    "sequences": ("batch", "num_hypotheses", "sequence_length"),
    "log_probs": ("batch", "num_hypotheses", "sequence_length"),
    "scores": ("batch", "num_hypotheses"),
}


def convert(
    function: Callable[..., dict[str, tf.Tensor]],
    inputs: dict[str, tf.TensorSpec],
    axes: Axes,
) -> onnx.ModelProto:
    """Converts a function of tensors to an ONNX model.

    Args:
        function: takes the inputs in order, returns outputs by their ONNX names.
        inputs: ONNX name -> shape and type.
        axes: ONNX name -> axis names, for each input and output.

    Returns: the checked model.

    Raises:
        ArtifactError: an operator does not convert, or is not on the allow-list.
    """
    names = list(inputs)
    # TensorFlow allows no dots in argument names: positions stand for them until the conversion.
    signature = [tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{i}") for i, spec in enumerate(inputs.values())]
    with as_one_operator():
        concrete = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    tensor_names = [tensor.name for tensor in concrete.inputs if tensor.dtype != tf.resource]
    # Flattening sorts a dict by key; the tensors come in the same order.
    output_names = sorted(concrete.structured_outputs)
    output_tensors = [tensor.name for tensor in concrete.outputs]
    renamed = dict(zip([*tensor_names, *output_tensors], [*names, *output_names], strict=True))
    optimizers = {name: tf2onnx_optimizer._get_optimizers()[name] for name in OPTIMIZERS}
    with tf.device("/cpu:0"), only_errors("tensorflow", "tf2onnx"), one_search():
        frozen = tf_loader.from_function(concrete, tensor_names, output_tensors)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen, name="")
            try:
                onnx_graph = tf2onnx.tfonnx.process_tf_graph(
                    graph,
                    opset=OPSET,
                    input_names=tensor_names,
                    output_names=output_tensors,
                    tensors_to_rename=renamed,
                    custom_op_handlers=HANDLERS,
                    continue_on_error=False,
                )
            except (ValueError, NotImplementedError, RuntimeError) as error:
                raise ArtifactError(f"the model does not convert to ONNX: {one_line(error)}") from error
            model = tf2onnx_optimizer.optimize_graph(onnx_graph, catch_errors=False, optimizers=optimizers).make_model(
                "tfzoo"
            )
    hoist_loop_invariants(model.graph)
    share_initializers(model.graph)
    transpose_initializers(model.graph)
    divide_before_erf(model.graph)
    _order(model.graph.input, names)
    name_axes(model, axes)
    model.producer_name = "tfzoo"
    check(model)
    return model


def _order(values: Any, names: list[str]) -> None:
    """Sorts inputs as given; tf2onnx drops one that the graph does not read, which a consumer would then not find."""
    by_name = {value.name: value for value in values}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ArtifactError(f"the ONNX graph does not read its input {missing[0]!r}.")
    ordered = [onnx.ValueInfoProto.FromString(by_name[name].SerializeToString()) for name in names]
    del values[:]
    values.extend(ordered)


def check(model: onnx.ModelProto) -> None:
    """Runs ONNX' checker with shape inference, and the allow-list.

    Raises:
        ArtifactError: the graph is invalid, or holds an operator that is not on the list.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"the ONNX graph is invalid: {one_line(error)}") from error
    foreign = sorted(set(count_operators(model)) - ALLOWED_OPERATORS)
    if foreign:
        raise ArtifactError(
            f"the ONNX graph holds {', '.join(foreign)}, which consumers are not known to run; "
            "write the model without it, or add it to ALLOWED_OPERATORS after running it everywhere."
        )
