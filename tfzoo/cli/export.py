"""Exports a run to SavedModel and ONNX, and proves both equal to the Keras model.

    tfzoo export --run_dir=runs/g2p --output_dir=exports/g2p

The artifact appears only once it is proved; an export that fails leaves nothing behind.
"""

from __future__ import annotations

from typing import Any

from absl import flags

from tfzoo.cli.flags import EXPORT_FORMATS, FORMATS, require
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.errors import UsageError, nearest


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("run_dir", None, "the folder of a run, as `tfzoo train` left it", flag_values=flag_values)
    flags.DEFINE_string("output_dir", None, "the artifact's folder; must be new or empty", flag_values=flag_values)
    flags.DEFINE_list(
        "formats", list(FORMATS), f"which of {', '.join(EXPORT_FORMATS)}, separated by commas", flag_values=flag_values
    )


def run(flag_values: flags.FlagValues) -> None:
    """Exports, and prints where the artifact is and what was proved."""
    require(flag_values, "run_dir", "output_dir")
    for name in flag_values.formats:
        if name not in EXPORT_FORMATS:
            raise UsageError(
                f"--formats knows {', '.join(EXPORT_FORMATS)}; received {name!r}.{nearest(name, EXPORT_FORMATS)}"
            )
    if not flag_values.formats:
        raise UsageError(f"--formats is empty: give one or more of {', '.join(EXPORT_FORMATS)}.")
    import_tensorflow()
    from tfzoo import runs

    manifest = runs.export_run(flag_values.run_dir, flag_values.output_dir, formats=tuple(flag_values.formats))
    print(f"exported and proved: {flag_values.output_dir}")
    for name in manifest["formats"]:
        proof = manifest["proof"][name]
        differences = [probe["max_logit_difference"] for probe in proof["probes"]]
        num_texts = len(manifest["golden"]["texts"])
        if "identical_tokens" in proof:
            answers = f"token for token in {', '.join(proof['identical_tokens'])} search of {num_texts} texts"
        else:
            answers = f"the same answers to {num_texts} texts, scores to {proof['golden']['max_score_difference']:.1e}"
        shapes = f"on {len(differences)} shapes, logits to {max(differences):.1e}"
        print(f"  {name} equals the Keras model: {shapes}; {answers}")
    if "onnx_text" in manifest["proof"]:
        print(f"  {text_graph_line(manifest['proof']['onnx_text'])}")
    size = sum(file["bytes"] for file in manifest["files"].values())
    print(f"  {len(manifest['files'])} files, {size / 1e6:.1f} MB; manifest.json holds the proof")
    print(f"next: tfzoo predict --artifact={flag_values.output_dir}")


def text_graph_line(proof: dict[str, Any]) -> str:
    """What was proved of the graph that takes a string."""
    return (
        f"onnx_text gives the answers of onnx: {proof['golden_texts']} texts and {proof['vectors']} vectors, scores to "
        f"{proof['max_score_difference']:.1e}; {proof['left_out']} that it may read otherwise are left out"
    )
