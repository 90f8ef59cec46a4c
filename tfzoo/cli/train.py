r"""Trains a recipe; the same command again resumes where it stopped.

    tfzoo train --recipe=transformer_tiny_g2p --run_dir=runs/g2p

    tfzoo train --recipe=transformer_small --run_dir=runs/en-de --data=tsv:train.tsv \
        --validation_data=tsv:validation.tsv --set=training.num_steps=5000 --set=data.batch_tokens=2048

    tfzoo train --recipe=bert_mini --run_dir=runs/encoder --data=text:corpus/*.txt
    tfzoo train --recipe=bert_mini --task=text_classification --run_dir=runs/classifier --data=tsv:train.tsv \
        --validation_data=tsv:validation.tsv --set=training.initial_checkpoint=runs/encoder

The third command pretrains an encoder, and the fourth fine-tunes it: `training.initial_checkpoint` names what a run
begins with, the folder of a run, one of Hugging Face's, or sample:minilm.

With --export_dir=A the folder A holds an artifact of the best weights so far, proved, from the first checkpoint on.

Several GPUs of one machine are used by themselves. Several machines run one command each, which finds the others by
TF_CONFIG, Slurm or Kubernetes; a batch is that of all of them together.

`tfzoo show NAME` prints the fields that --set can change. SIGTERM and SIGINT (Ctrl-C) end a run after the running step,
which is saved first; the exit code is 130.
"""

from __future__ import annotations

from absl import flags

from tfzoo import zoo
from tfzoo.cli.flags import DATA_HELP, require
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.recipes import override
from tfzoo.training.cluster import STRATEGIES, check_strategy


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("recipe", None, "a name out of `tfzoo list`, or a recipe's JSON file", flag_values=flag_values)
    flags.DEFINE_string(
        "task", None, "what the model is for, where the recipe is for several tasks", flag_values=flag_values
    )
    flags.DEFINE_string("run_dir", None, "the folder where the run is kept and resumed", flag_values=flag_values)
    flags.DEFINE_multi_string("data", [], f"training data: {DATA_HELP}", flag_values=flag_values)
    flags.DEFINE_multi_string("validation_data", [], "validation data, written like --data", flag_values=flag_values)
    flags.DEFINE_multi_string("set", [], "a recipe field, section.field=value", flag_values=flag_values)
    flags.DEFINE_string(
        "export_dir",
        None,
        "a folder for the artifact of the best weights, renewed during training",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "strategy",
        "auto",
        f"devices to train on: {', '.join(STRATEGIES)}; see docs/distributed.md",
        flag_values=flag_values,
    )


def run(flag_values: flags.FlagValues) -> None:
    """Trains, and prints where the run is."""
    require(flag_values, "recipe", "run_dir")
    check_strategy(flag_values.strategy)
    recipe = override(zoo.recipe(flag_values.recipe, flag_values.task), flag_values["set"].value)
    import_tensorflow()
    from tfzoo import runs

    runs.train(
        recipe,
        flag_values.run_dir,
        data=tuple(flag_values.data),
        validation_data=tuple(flag_values.validation_data),
        strategy=flag_values.strategy,
        export_dir=flag_values.export_dir,
    )
    print(f"trained: {flag_values.run_dir}")
    print(f"next: tfzoo predict --run_dir={flag_values.run_dir}")
