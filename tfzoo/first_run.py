"""The quickstart: everything that tfzoo does, once, on a small task with real data."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfzoo import runs, zoo
from tfzoo.data.samples import cmudict
from tfzoo.errors import ArtifactMismatch
from tfzoo.runtime.artifact import MANIFEST, Artifact

RECIPE = "transformer_tiny_g2p"
TEST_DATA = "sample:cmudict:test"
# Words that CMUdict may lack; those that it has are left out of the demonstration.
WORDS = ("tensorboard", "blogosphere", "zoomorphic", "quizmaster", "selfie", "hackathon", "jellyfishing", "nanobot")
NUM_WORDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quickstart:
    """What the quickstart did; its text is the report that the command line prints.

    Args:
        run_dir: the run.
        artifact_dir: the artifact.
        scores: on the held-out words, see `tfzoo.evaluate`, and those of the run's last checkpoint.
        pronunciations: word that was in no data -> the artifact's answer, the same from both runtimes.
        proof: from the artifact's manifest.
        seconds: duration of each stage.
    """

    run_dir: Path
    artifact_dir: Path
    scores: dict[str, Any]
    pronunciations: dict[str, str]
    proof: dict[str, Any]
    seconds: dict[str, float]

    def __str__(self) -> str:
        """Returns the report."""
        width = max(map(len, self.pronunciations))
        differences = [
            probe["max_logit_difference"] for name in ("saved_model", "onnx") for probe in self.proof[name]["probes"]
        ]
        stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        scores = self.scores
        return "\n".join(
            [
                "",
                f"Held-out words: {scores['num_sources']:,}, none of which was trained on",
                f"  phoneme error rate {scores['token_error_rate']:.1%}",
                f"  word error rate    {scores['word_error_rate']:.1%}",
                "",
                "Proved: SavedModel and ONNX equal the Keras model",
                f"  largest difference of a logit {max(differences):.1e}; greedy, beam and sampled tokens identical",
                "",
                "Words from outside the dictionary, by SavedModel and ONNX Runtime, token for token the same:",
                *(f"  {word:<{width}}  {output}" for word, output in self.pronunciations.items()),
                "",
                f"Took {sum(self.seconds.values()):.0f} s: {stages}",
                "",
                f"The run:      {self.run_dir}",
                f"The artifact: {self.artifact_dir}",
                "",
                "Next:",
                f"  echo serendipity | tfzoo predict --artifact={self.artifact_dir}",
                f"  tfzoo verify {self.artifact_dir}",
                "  tfzoo train --recipe=transformer_small_g2p --run_dir=runs/small_g2p",
            ]
        )


def quickstart(run_dir: str | os.PathLike[str]) -> Quickstart:
    """Trains a small Transformer to pronounce English words, scores, exports, proves and uses it.

    Called again, it resumes; what is done is not done twice.

    Args:
        run_dir: an absent or empty folder, or that of an earlier quickstart; the artifact goes below it.

    Returns: what it did; its text is a report.

    Raises:
        DataError: the package with the data is not installed.
        ArtifactMismatch: the export is not equal to the model, or the runtimes disagree on a word.
    """
    run_dir = Path(run_dir)
    artifact_dir = run_dir / "artifact" / "pronounce"
    seconds: dict[str, float] = {}

    def timed(name: str, stage: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = stage()
        seconds[name] = time.perf_counter() - start
        return result

    known = {word for split in ("train", "validation", "test") for word, _ in cmudict(split)}
    timed("training", lambda: runs.train(zoo.recipe(RECIPE), run_dir))
    if not (artifact_dir / MANIFEST).exists():
        scores = timed("evaluation", lambda: runs.evaluate(run_dir, TEST_DATA))
        timed("export and proof", lambda: runs.export_run(run_dir, artifact_dir, metrics=scores))
    words = [word for word in WORDS if word not in known][:NUM_WORDS]
    artifacts = {name: Artifact(artifact_dir, name) for name in ("onnx", "saved_model")}  # type: ignore[arg-type]
    answers = {name: [found[0] for found in artifact.generate(words)] for name, artifact in artifacts.items()}
    for word, onnx, saved_model in zip(words, answers["onnx"], answers["saved_model"], strict=True):
        if onnx.token_ids != saved_model.token_ids:
            raise ArtifactMismatch(
                f"{artifact_dir}: for {word!r} ONNX answers {onnx.output!r} and SavedModel {saved_model.output!r}."
            )
    return Quickstart(
        run_dir=run_dir,
        artifact_dir=artifact_dir,
        scores=artifacts["onnx"].manifest["metrics"],
        pronunciations={word: found.output for word, found in zip(words, answers["onnx"], strict=True)},
        proof=artifacts["onnx"].manifest["proof"],
        seconds=seconds,
    )
