"""Proves an artifact again, on any machine.

    tfzoo verify exports/g2p

Checks the files' checksums, the golden answers, the tokenizers and what a server does at its start, and compares
SavedModel with ONNX; ends with exit code 1 and the first difference if there is one.
"""

from __future__ import annotations

from absl import flags

from tfzoo.cli.export import text_graph_line
from tfzoo.cli.flags import FORMATS, require
from tfzoo.cli.quiet import import_tensorflow

COMPARISON = "onnx against saved_model"


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("artifact", None, "the folder of an artifact", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Verifies, and prints what was proved."""
    require(flag_values, "artifact")
    import_tensorflow()
    from tfzoo import runs

    report = runs.verify(flag_values.artifact)
    print(f"verified: {flag_values.artifact}")
    print(f"  {report['num_files']} files have the checksums of the manifest")
    for name in FORMATS:
        if name in report:
            found = report[name]
            print(
                f"  {name} gives the recorded answers: scores to {found['max_score_difference']:.1e}, "
                f"logits to {found['max_logit_difference']:.1e}"
            )
            print(f"  {name} tokenizes as recorded: {found['tokenizer_vectors']} vectors")
        if name == "saved_model" and name in report:
            print(
                f"  {name} answers as a server: {report[name]['served']} texts by serving_default, loaded in two ways, "
                f"and {report[name]['serving']['num_warm_up_requests']} warm-up requests"
            )
    if "onnx_text" in report:
        print(f"  {text_graph_line(report['onnx_text'])}")
    if COMPARISON in report:
        differences = [probe["max_logit_difference"] for probe in report[COMPARISON]["probes"]]
        print(f"  {COMPARISON}: equal on {len(differences)} shapes, logits to {max(differences):.1e}")
