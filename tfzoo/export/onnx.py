"""Keras model -> ONNX graphs at opset 18.

tf2onnx writes a file for a graph that no runtime accepts and reports success. Here an operator that it cannot convert
raises, the graph goes through the checker, and only operators of an allow-list may remain. That the file computes what
the model computes is for `verify` to prove.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
import onnx
import tensorflow as tf
import tf2onnx
from tf2onnx import optimizer as tf2onnx_optimizer
from tf2onnx import tf_loader

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.decoding.generate import search
from tfzoo.errors import ArtifactError, one_line
from tfzoo.export.onnx_passes import count_operators, hoist_loop_invariants, name_axes
from tfzoo.export.quiet import only_errors
from tfzoo.runtime import onnx_names

OPSET = 18

# What ONNX Runtime runs on CPU and in the browser, and what our models and search loops consist of.
ALLOWED_OPERATORS = frozenset(
    """Add And Cast Concat ConstantOfShape CumSum Div Equal Erf Expand Gather GatherElements GatherND Gemm Greater
    GreaterOrEqual Identity If Less LessOrEqual LogSoftmax Loop MatMul Max Min Mod Mul Neg Not Or Pad Pow Range
    ReduceMax ReduceMean ReduceSum Relu Reshape Shape Slice Softmax Split Sqrt Squeeze Sub Tanh Tile TopK Transpose
    Unsqueeze Where""".split()
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

Axes = dict[str, tuple[str | int, ...]]


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
    concrete = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    tensor_names = [tensor.name for tensor in concrete.inputs if tensor.dtype != tf.resource]
    # Flattening sorts a dict by key; the tensors come in the same order.
    output_names = sorted(concrete.structured_outputs)
    output_tensors = [tensor.name for tensor in concrete.outputs]
    renamed = dict(zip([*tensor_names, *output_tensors], [*names, *output_names], strict=True))
    optimizers = {name: tf2onnx_optimizer._get_optimizers()[name] for name in OPTIMIZERS}
    with tf.device("/cpu:0"), only_errors("tensorflow", "tf2onnx"):
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
                    continue_on_error=False,
                )
            except (ValueError, NotImplementedError, RuntimeError) as error:
                raise ArtifactError(f"the model does not convert to ONNX: {one_line(error)}") from error
            model = tf2onnx_optimizer.optimize_graph(onnx_graph, catch_errors=False, optimizers=optimizers).make_model(
                "tfzoo"
            )
    hoist_loop_invariants(model.graph)
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


def write_onnx(model: keras.Model, directory: str) -> None:
    """Writes the graphs of a model's task under `directory`/onnx.

    Args:
        model: a zoo model.
        directory: an artifact under construction.

    Raises:
        ArtifactError: a graph does not convert.
    """
    os.makedirs(os.path.join(directory, "onnx"))
    for path, build in {
        onnx_names.ENCODER: _encoder,
        onnx_names.DECODER: _decoder,
        onnx_names.GENERATE: _generate,
    }.items():
        onnx.save(build(model), os.path.join(directory, path))


# Hugging Face's callers bind ids and masks as int64, and transformers.js casts nothing. generate.onnx is ours alone and
# keeps int32, which JavaScript has without BigInt.
_HUGGING_FACE_IDS = tf.TensorSpec((None, None), tf.int64)
_IDS = tf.TensorSpec((None, None), tf.int32)
_SOURCE_AXES = ("batch", "encoder_sequence_length")


def _masked(model: keras.Model, input_ids: tf.Tensor, attention_mask: tf.Tensor) -> tf.Tensor:
    """The model reads padding from the ids; Hugging Face's callers say it by a mask."""
    return tf.where(attention_mask > 0, tf.cast(input_ids, tf.int32), model.config.pad_id)


def _encoder(model: keras.Model) -> onnx.ModelProto:
    def encode(input_ids: tf.Tensor, attention_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        token_ids = _masked(model, input_ids, attention_mask)
        padding_mask = tf.cast(token_ids != model.config.pad_id, tf.int32)
        return {"last_hidden_state": model.encode(token_ids, padding_mask)}

    return convert(
        encode,
        {"input_ids": _HUGGING_FACE_IDS, "attention_mask": _HUGGING_FACE_IDS},
        {
            "input_ids": _SOURCE_AXES,
            "attention_mask": _SOURCE_AXES,
            "last_hidden_state": (*_SOURCE_AXES, model.config.hidden_dim),
        },
    )


def _decoder(model: keras.Model) -> onnx.ModelProto:
    """Decodes with or without past in one graph.

    `use_cache_branch` [1] bool: False = the first call, when the past is ignored (its lengths may be 0) and keys and
    values of the source come from `encoder_hidden_states`; True = a later call, when they come from the past.
    """
    config = model.config
    head_dim = config.hidden_dim // config.num_heads
    state_entries = [
        f"{kind}_{layer}"
        for layer in range(config.num_layers)
        for kind in ("self_key", "self_value", "memory_key", "memory_value")
    ]
    cache = tf.TensorSpec((None, config.num_heads, None, head_dim), tf.float32)
    inputs = {
        "input_ids": _HUGGING_FACE_IDS,
        "encoder_attention_mask": _HUGGING_FACE_IDS,
        "encoder_hidden_states": tf.TensorSpec((None, None, config.hidden_dim), tf.float32),
        **{onnx_names.state_name(entry, "past_key_values"): cache for entry in state_entries},
        "use_cache_branch": tf.TensorSpec((1,), tf.bool),
    }

    def decode(
        input_ids: tf.Tensor,
        encoder_attention_mask: tf.Tensor,
        encoder_hidden_states: tf.Tensor,
        *rest: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        past, use_cache = dict(zip(state_entries, rest[:-1], strict=True)), rest[-1][0]
        memory_names = [entry for entry in state_entries if entry.startswith("memory_")]

        def from_encoder() -> list[tf.Tensor]:
            memory = model.memory_state(encoder_hidden_states)
            return [memory[name] for name in memory_names]

        memory = tf.cond(use_cache, lambda: [past[name] for name in memory_names], from_encoder)
        padding_mask = tf.cast(encoder_attention_mask, tf.int32)
        state = {"memory_padding_mask": padding_mask, **dict(zip(memory_names, memory, strict=True))}
        for entry in state_entries:
            if entry not in state:
                length = tf.where(use_cache, tf.shape(past[entry])[2], 0)
                state[entry] = past[entry][:, :, :length]
        logits, state = model.step(tf.cast(input_ids, tf.int32), state)
        present = {onnx_names.state_name(entry, "present"): state[entry] for entry in state_entries}
        return {"logits": logits, **present}

    def cache_axes(entry: str, length: str) -> tuple[str | int, ...]:
        name = "encoder_sequence_length" if entry.startswith("memory_") else length
        # Before the first step the past of the source may be empty while the source is not.
        name = f"{name}_out" if entry.startswith("memory_") and length.startswith("past") else name
        return ("batch", config.num_heads, name, head_dim)

    return convert(
        decode,
        inputs,
        {
            "input_ids": ("batch", "decoder_sequence_length"),
            "encoder_attention_mask": _SOURCE_AXES,
            "encoder_hidden_states": (*_SOURCE_AXES, config.hidden_dim),
            "use_cache_branch": (1,),
            "logits": ("batch", "decoder_sequence_length", config.vocabulary_size),
            **{
                onnx_names.state_name(entry, prefix): cache_axes(entry, length)
                for entry in state_entries
                for prefix, length in (
                    ("past_key_values", "past_decoder_sequence_length"),
                    ("present", "present_decoder_sequence_length"),
                )
            },
        },
    )


def _generate(model: keras.Model) -> onnx.ModelProto:
    def generate(input_ids: tf.Tensor, attention_mask: tf.Tensor, *options: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {"encoder_token_ids": _masked(model, input_ids, attention_mask)}
        found = search(model, inputs, **dict(zip(ROW_OPTIONS, options, strict=True)))
        return {"sequences": found["token_ids"], "scores": found["scores"]}

    return convert(
        generate,
        {
            "input_ids": _IDS,
            "attention_mask": _IDS,
            **{name: tf.TensorSpec((None,), dtype) for name, dtype in ROW_OPTIONS.items()},
        },
        {
            "input_ids": _SOURCE_AXES,
            "attention_mask": _SOURCE_AXES,
            **dict.fromkeys(ROW_OPTIONS, ("batch",)),
            "sequences": ("batch", "num_hypotheses", "sequence_length"),
            "scores": ("batch", "num_hypotheses"),
        },
    )
