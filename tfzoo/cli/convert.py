"""Converts another project's checkpoint into a run, or a run into such a checkpoint.

    tfzoo convert --from=hf --checkpoint=downloads/gpt2 --run_dir=runs/gpt2
    tfzoo convert --to=hf --run_dir=runs/gpt2 --checkpoint=exports/gpt2-hf

`hf` is a folder of Hugging Face's transformers: config.json, model.safetensors and the tokenizer's files, of GPT-2.
The run can be predicted with, exported, and trained further on data of yours, by its own recipe.json.
"""

from __future__ import annotations

from absl import flags

from tfzoo.cli.flags import require
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.errors import UsageError

CHECKPOINTS = ("hf",)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_enum("from", None, CHECKPOINTS, "whose checkpoint is read", flag_values=flag_values)
    flags.DEFINE_enum("to", None, CHECKPOINTS, "whose checkpoint is written", flag_values=flag_values)
    flags.DEFINE_string(
        "checkpoint", None, "the checkpoint's folder; with --to it must be new or empty", flag_values=flag_values
    )
    flags.DEFINE_string("run_dir", None, "the run; with --from it must be new or empty", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Converts, and prints where the result is."""
    source, target = flag_values["from"].value, flag_values["to"].value
    if (source is None) == (target is None):
        received = "neither" if source is None else "both"
        raise UsageError(f"give either --from (read a checkpoint) or --to (write one); received {received}.")
    require(flag_values, "checkpoint", "run_dir")
    import_tensorflow()
    from tfzoo.interop import hf

    if source is None:
        hf.write_checkpoint(flag_values.run_dir, flag_values.checkpoint)
        print(f"converted: {flag_values.checkpoint}")
        return
    hf.read_checkpoint(flag_values.checkpoint, flag_values.run_dir)
    print(f"converted: {flag_values.run_dir}")
    print(f"next: tfzoo predict --run_dir={flag_values.run_dir}")
    print(f"or: tfzoo train --recipe={flag_values.run_dir}/recipe.json --run_dir={flag_values.run_dir} --data=SPEC")
