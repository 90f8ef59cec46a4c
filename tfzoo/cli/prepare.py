r"""Tokenizes and shards a corpus once, for many epochs and many workers; the same command again goes on.

    tfzoo prepare --recipe=transformer_small --data=tsv:news.tsv@0.3 --data=tsv:talks.tsv@0.7 \
        --set=data.cleaning=whitespace,exact_duplicates --output_dir=corpora/en-de

    tfzoo prepare --recipe=gpt2_tiny --data='text:books/*.txt.gz' --output_dir=corpora/books
    tfzoo prepare --recipe=gpt2_tiny --data=text:held_out.txt --tokenizer=corpora/books --output_dir=corpora/held_out

`tfzoo train` then reads prepared:corpora/en-de, with the same recipe. The folder is also a TensorFlow dataset. The last
command prepares validation data, with the tokenizer of the training data. With --beam_runner the same shards are made
by an Apache Beam pipeline, on as many machines as the runner has; the tokenizer is then a given one.
"""

from __future__ import annotations

import os

from absl import flags

from tfzoo import zoo
from tfzoo.cli.flags import DATA_HELP, define_beam, pipeline_options, require
from tfzoo.errors import UsageError
from tfzoo.recipes import override


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("recipe", None, "a name out of `tfzoo list`, or a recipe's JSON file", flag_values=flag_values)
    flags.DEFINE_multi_string("data", [], f"what to prepare: {DATA_HELP}", flag_values=flag_values)
    flags.DEFINE_string("output_dir", None, "the folder that --data=prepared:DIR then names", flag_values=flag_values)
    flags.DEFINE_multi_string("set", [], "a recipe field, section.field=value", flag_values=flag_values)
    flags.DEFINE_string(
        "tokenizer",
        None,
        "the folder of a run, an artifact, another prepared corpus or a tokenizer; left out, one is trained",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "tokenizer_characters",
        10_000_000,
        "how much text, from all over the corpus, a tokenizer is trained on",
        flag_values=flag_values,
    )
    flags.DEFINE_integer("num_workers", None, "processes; left out, one for each core", flag_values=flag_values)
    flags.DEFINE_integer(
        "num_shards",
        None,
        "files, of which training needs one for each worker; left out, one for each 32 MB of text, and at least 16",
        flag_values=flag_values,
    )
    define_beam(flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Prepares, and prints where the corpus is."""
    require(flag_values, "recipe", "output_dir")
    recipe = override(zoo.recipe(flag_values.recipe), flag_values["set"].value)
    data, output_dir = tuple(flag_values.data), flag_values.output_dir
    if flag_values.beam_runner is None:
        from tfzoo.preparation import prepare

        prepare(
            recipe,
            output_dir,
            data=data,
            tokenizer=flag_values.tokenizer,
            num_workers=flag_values.num_workers or len(os.sched_getaffinity(0)),
            num_shards=flag_values.num_shards,
            tokenizer_characters=flag_values.tokenizer_characters,
        )
    else:
        require(flag_values, "tokenizer")
        try:
            from tfzoo.beam_preparation import prepare_by_beam
        except ModuleNotFoundError as error:
            raise UsageError("--beam_runner needs Apache Beam: pip install 'tfzoo[beam]'") from error
        prepare_by_beam(
            recipe,
            output_dir,
            data=data,
            tokenizer=flag_values.tokenizer,
            num_shards=flag_values.num_shards,
            pipeline_options=pipeline_options(flag_values),
        )
    print(f"prepared: {output_dir}")
    print(f"next: tfzoo train --recipe={flag_values.recipe} --data=prepared:{output_dir} --run_dir=...")
