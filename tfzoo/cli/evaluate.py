"""Scores a run or an artifact on data, with the metrics of its recipe.

    tfzoo evaluate --run_dir=runs/g2p --data=sample:cmudict:test
    tfzoo evaluate --artifact=exports/en-de --runtime=onnx --data=tsv:test.tsv --json

BLEU and chrF come with sacreBLEU's signature.
"""

from __future__ import annotations

import json

from absl import flags

from tfzoo.cli.flags import DATA_HELP, define_runtime, define_source, imports_tensorflow, require, source
from tfzoo.cli.quiet import import_tensorflow


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    define_source(flag_values)
    flags.DEFINE_multi_string("data", [], f"data to score on: {DATA_HELP}", flag_values=flag_values)
    define_runtime(flag_values)
    flags.DEFINE_bool("json", False, "print JSON instead of lines", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Prints the scores."""
    path = source(flag_values)
    require(flag_values, "data")
    if imports_tensorflow(flag_values):
        import_tensorflow()
    from tfzoo import runs

    scores = runs.evaluate(path, tuple(flag_values.data), runtime=flag_values.runtime)
    if flag_values.json:
        print(json.dumps(scores, indent=2))
        return
    for name, value in scores.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
