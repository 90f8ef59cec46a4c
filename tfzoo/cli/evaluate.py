"""Scores a run or an artifact on data, with the metrics of its recipe.

    tfzoo evaluate --run_dir=runs/g2p --data=sample:cmudict:test
    tfzoo evaluate --artifact=exports/en-de --runtime=onnx --data=tsv:test.tsv --json

BLEU, chrF and TER come with sacreBLEU's signature.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from absl import flags

from tfzoo.cli.flags import DATA_HELP, define_runtime, define_source, imports_tensorflow, require, source
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.evaluation.config import TOKENIZERS


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    define_source(flag_values)
    flags.DEFINE_multi_string("data", [], f"data to score on: {DATA_HELP}", flag_values=flag_values)
    define_runtime(flag_values)
    flags.DEFINE_enum(
        "tokenizer",
        None,
        TOKENIZERS,
        "what BLEU, TER and ROUGE count as a word; zh for Chinese",
        flag_values=flag_values,
    )
    flags.DEFINE_bool("by_length", False, "score each bucket of source lengths too", flag_values=flag_values)
    flags.DEFINE_string("worst", None, "JSONL file to write: all outputs, the worst first", flag_values=flag_values)
    flags.DEFINE_string(
        "forced", None, "JSONL file to write: log-probability and perplexity of each target", flag_values=flag_values
    )
    flags.DEFINE_bool("json", False, "print JSON instead of lines", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Prints the scores."""
    path = source(flag_values)
    require(flag_values, "data")
    if imports_tensorflow(flag_values):
        import_tensorflow()
    from tfzoo import runs

    details = {name: flag_values[name].value for name in ("tokenizer", "by_length", "worst", "forced")}
    given = {name: value for name, value in details.items() if value}
    scores = runs.evaluate(path, tuple(flag_values.data), runtime=flag_values.runtime, **given)
    if flag_values.json:
        print(json.dumps(scores, indent=2))
        return
    for name, value in scores.items():
        for line in _lines(name, value):
            print(line)


def _lines(name: str, value: Any) -> Iterator[str]:
    """A number a line, with the names that lead to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(f"{name}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        yield f"{name}: {' '.join(map(_plain, value))}"
    else:
        yield f"{name}: {_plain(value)}"


def _plain(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
