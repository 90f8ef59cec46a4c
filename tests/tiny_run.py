"""One small run with its artifact, made through the command line: words in, their letters in reverse order out."""

import dataclasses
import hashlib
from pathlib import Path

from tfzoo.cli.main import main

WORDS = """basket bridge butter candle carpet cheese cherry circle coffee cotton cousin dinner doctor dragon engine
    father finger flower forest friend garden gentle guitar hammer harbor honey island jacket kitten ladder lemon market
    mirror monkey mother needle number orange oyster pepper pillow planet pocket purple rabbit river rocket saddle
    silver stone summer tensor ticket tunnel turtle velvet wallet window winter yellow""".split()
NUM_TRAINED = 52
STEPS, CHECKPOINT_STEPS = 160, 40
# What makes the recipe train in seconds.
SETTINGS = [
    f"training.num_steps={STEPS}",
    f"training.checkpoint_steps={CHECKPOINT_STEPS}",
    "training.warmup_steps=10",
    "training.learning_rate=0.01",
    "model.hidden_dim=32",
    "model.intermediate_dim=64",
    "model.num_layers=1",
    "model.max_sequence_length=17",
    "data.batch_size=26",
    "data.max_source_length=13",
    "data.max_target_length=13",
    "decoding.max_length=12",
]


@dataclasses.dataclass(frozen=True)
class TinyRun:
    """A trained run and its artifact; no test changes either.

    Args:
        train: TSV file with the words that it learnt.
        validation: TSV file with others; their first ones are the run's examples.
        run_dir: the run.
        artifact: the artifact.
    """

    train: Path
    validation: Path
    run_dir: Path
    artifact: Path

    def command(self, run_dir: Path | None = None) -> list[str]:
        """The command that trains this run, or the same into another folder."""
        return [
            "train",
            "--recipe=transformer_tiny_g2p",
            f"--run_dir={run_dir or self.run_dir}",
            f"--data=tsv:{self.train}",
            f"--validation_data=tsv:{self.validation}",
            *(f"--set={setting}" for setting in SETTINGS),
        ]


def pair(word: str) -> str:
    """A line of the data, "river<TAB>R E V I R"."""
    return f"{word}\t{' '.join(reversed(word.upper()))}\n"


def make(directory: Path) -> TinyRun:
    """Writes the data, trains and exports."""
    run = TinyRun(directory / "train.tsv", directory / "validation.tsv", directory / "run", directory / "artifact")
    run.train.write_text("".join(map(pair, WORDS[:NUM_TRAINED])), encoding="utf-8")
    run.validation.write_text("".join(map(pair, WORDS[NUM_TRAINED:])), encoding="utf-8")
    for arguments in (run.command(), ["export", f"--run_dir={run.run_dir}", f"--output_dir={run.artifact}"]):
        status = main(arguments)
        if status:
            raise RuntimeError(f"tfzoo {' '.join(arguments)} ended with {status}.")
    return run


def digest(directory: Path) -> dict[str, str]:
    """Relative path -> checksum of each file, hidden ones included; folders have an empty one."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(directory.rglob("*"))
    }
