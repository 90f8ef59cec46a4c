"""Proves an artifact again, on any machine.

    tfzoo verify exports/g2p

Checks the files' checksums and the golden answers, and compares SavedModel with ONNX; ends with exit code 1 and the
first difference if there is one.
"""

from __future__ import annotations

from absl import flags

from tfzoo.cli.flags import require
from tfzoo.cli.quiet import import_tensorflow


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("artifact", None, "the folder of an artifact", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Verifies, and prints that the proof holds."""
    require(flag_values, "artifact")
    import_tensorflow()
    from tfzoo import runs

    runs.verify(flag_values.artifact)
    print(f"verified: {flag_values.artifact}")
