"""Lists the zoo.

    tfzoo list
    tfzoo list --json

One line a recipe: name, family, task, number of weights, paper, package with pretrained weights, shipped artifact.
"""

from __future__ import annotations

import json

from absl import flags

from tfzoo import zoo


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_bool("json", False, "print JSON instead of a table", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Prints the zoo."""
    entries = [
        {
            "name": name,
            "family": entry.recipe().family,
            "task": entry.task,
            "parameters": entry.parameters,
            "paper": entry.paper,
            "pretrained": entry.pretrained,
            "artifact": entry.artifact,
        }
        for name, entry in zoo.ZOO.items()
    ]
    if flag_values.json:
        print(json.dumps(entries, indent=2))
        return
    rows = [list(entries[0]), *([_cell(value) for value in entry.values()] for entry in entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: str | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else value
