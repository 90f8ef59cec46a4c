"""Flags that several commands share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from absl import flags

from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.errors import UsageError

DATA_HELP = (
    "tsv:PATH, jsonl:PATH, text:PATH, document:PATH, conll:PATH, squad:PATH, back_translated:PATH, "
    "tfds:NAME[/CONFIG][:SPLIT], sample:NAME[:SPLIT] or prepared:DIR; a PATH may hold * and end in .gz; @0.3 behind it "
    "is its weight in a mixture"
)
FORMATS = ("saved_model", "onnx")
EXPORT_FORMATS = (*FORMATS, "onnx_text")
RUNTIMES = ("keras", *FORMATS)

_DECODING_HELP = {
    "max_length": "most tokens to generate, the end token included; a prompt does not count",
    "min_length": "fewest tokens to generate before the end token",
    "num_beams": "hypotheses that beam search keeps; 1 = greedy",
    "length_penalty": "how much beam search favours longer outputs; 0 = not at all",
    "repetition_penalty": "above 1: makes tokens that were there before less likely",
    "temperature": "above 0: sample, the flatter the higher; 0 = search",
    "top_k": "sample among the k likeliest tokens only; 0 = all",
    "top_p": "sample among the likeliest tokens that together hold this probability",
    "seed": "of the sampling: the same seed gives the same outputs",
    "num_return_sequences": "outputs for each input, best first",
    "stop": "a text at which an output is cut; may be given several times",
    "truncate_prompt": "drop the beginning of a prompt that is too long, instead of refusing it",
    "window_length": "question answering: tokens of a question and a part of its context that are read together",
    "stride": "question answering: tokens of the context by which one part is ahead of the one before",
    "max_question_length": "question answering: most tokens of a question, which loses its tail",
    "max_answer_length": "question answering: most tokens of an answer",
    "no_answer_threshold": "question answering: how much likelier, in logits, no answer must be than any to be given",
}
_FIELDS = (*dataclasses.fields(DecodingConfig), *dataclasses.fields(AnswerConfig))


def require(flag_values: flags.FlagValues, *names: str) -> None:
    """Raises UsageError unless each of the flags `names` was given."""
    for name in names:
        if flag_values[name].value in (None, []):
            raise UsageError(f"--{name} is missing: {' '.join(flag_values[name].help.split())}.")


def define_source(flag_values: flags.FlagValues) -> None:
    """Defines --run_dir and --artifact, of which one must be given."""
    flags.DEFINE_string("run_dir", None, "the folder of a run, as `tfzoo train` left it", flag_values=flag_values)
    flags.DEFINE_string(
        "artifact", None, "the folder of an artifact, as `tfzoo export` left it", flag_values=flag_values
    )


def source(flag_values: flags.FlagValues) -> str:
    """Returns the value of --run_dir or of --artifact; exactly one must be given."""
    given = [value for value in (flag_values.run_dir, flag_values.artifact) if value is not None]
    if len(given) != 1:
        received = " and ".join(given) or "neither"
        raise UsageError(f"give either --run_dir (a trained run) or --artifact (an exported one); received {received}.")
    return given[0]


def imports_tensorflow(flag_values: flags.FlagValues) -> bool:
    """Whether what `source` names is answered by TensorFlow, and not by an artifact's ONNX graphs."""
    if flag_values.runtime is not None:
        return flag_values.runtime != "onnx"
    return not os.path.isdir(os.path.join(source(flag_values), "onnx"))


def define_runtime(flag_values: flags.FlagValues) -> None:
    """Defines --runtime."""
    flags.DEFINE_enum(
        "runtime", None, RUNTIMES, "what computes the answers; left out, what fits the folder", flag_values=flag_values
    )


def define_beam(flag_values: flags.FlagValues) -> None:
    """Defines --beam_runner and --beam_option."""
    flags.DEFINE_string(
        "beam_runner", None, "such as DirectRunner, FlinkRunner, SparkRunner, DataflowRunner", flag_values=flag_values
    )
    flags.DEFINE_multi_string(
        "beam_option",
        [],
        "a flag of the runner's own, such as --beam_option=region=NAME",
        flag_values=flag_values,
    )


def pipeline_options(flag_values: flags.FlagValues) -> list[str]:
    """Returns the flags of the Beam pipeline."""
    return [f"--runner={flag_values.beam_runner}", *(f"--{option}" for option in flag_values.beam_option)]


def define_decoding(flag_values: flags.FlagValues) -> None:
    """Defines one flag for each field of the two decoding sections; the recipe gives the value of those left out."""
    define: dict[type, Callable[..., Any]] = {
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_bool,
        tuple: flags.DEFINE_multi_string,
        type(None): flags.DEFINE_float,  # a threshold that there may be
    }
    for field in _FIELDS:
        define[type(field.default)](field.name, None, _DECODING_HELP[field.name], flag_values=flag_values)


def decoding_overrides(flag_values: flags.FlagValues) -> dict[str, Any]:
    """Returns the decoding flags that were given, by field name."""
    values = {field.name: flag_values[field.name].value for field in _FIELDS}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if value is not None
    }
