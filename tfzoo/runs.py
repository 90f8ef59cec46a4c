"""What the command line does, as functions: train, load, evaluate, predict, export and verify.

A run is a folder:

    requested_recipe.json   the recipe as asked for; the same one again resumes the run
    recipe.json             the recipe with the vocabulary sizes that the trained tokenizer has
    tokenizer/              its files
    examples.json           a few source texts that training does not see, for the proof of an export
    checkpoints/            see tfzoo.training.checkpoints
    metrics.jsonl, tensorboard/
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging
from tqdm import tqdm

from tfzoo.data.sources import read
from tfzoo.errors import CheckpointError, RecipeError, UsageError
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.recipes.recipe import Recipe, differences, from_json, to_json
from tfzoo.runtime.artifact import MANIFEST, Artifact
from tfzoo.runtime.predictor import BATCH_SIZE, Prediction, Predictor
from tfzoo.text import TokenizerPair, train_pair

if TYPE_CHECKING:
    import keras

RECIPE, REQUESTED, EXAMPLES, TOKENIZER = "recipe.json", "requested_recipe.json", "examples.json", "tokenizer"
NUM_EXAMPLES = 5
# A run may go on with other values of these; everything else decides what the weights become.
_FREE_FIELDS = (
    "training.num_steps",
    "training.keep_checkpoints",
    "training.early_stopping_patience",
    "decoding",
    "evaluation",
)


class Run(Predictor):
    """A run folder: `model` with the best checkpoint's weights, `tokenizer`, `recipe`; callable on a list of texts.

    Args:
        run_dir: the folder.

    Raises:
        UsageError: the folder is not a run.
        CheckpointError: there is no checkpoint yet, or it is damaged.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        from tfzoo.runtime.keras import KerasBackend
        from tfzoo.training import checkpoints

        self.directory = Path(run_dir)
        self.recipe = _read_recipe(self.directory / RECIPE)
        tokenizer = TokenizerPair.load(self.directory / TOKENIZER)
        self.model = build_model(self.recipe)
        self.checkpoint = checkpoints.best(self.directory)
        checkpoints.load_weights(self.model, self.checkpoint)
        super().__init__(
            KerasBackend(self.model, tokenizer), tokenizer, self.recipe.decoding, self.recipe.model.max_sequence_length
        )


def build_model(recipe: Recipe) -> keras.Model:
    """Makes a recipe's model with fresh weights."""
    from tfzoo import models

    return models.Transformer(recipe.model)


def train(
    recipe: Recipe,
    run_dir: str | os.PathLike[str],
    *,
    data: Sequence[str] = (),
    validation_data: Sequence[str] = (),
    verbose: int | None = None,
) -> Run:
    """Trains a recipe into a folder; called again with the same arguments, it resumes.

    Args:
        recipe: what to train.
        run_dir: an absent or empty folder, or that of the run to resume.
        data: data specifications instead of the recipe's own.
        validation_data: the same for validation.
        verbose: 0 = silent, 1 = progress bar, 2 = a line for each checkpoint; None = a bar on a terminal, else lines.

    Returns: the run, with the weights of its best checkpoint.

    Raises:
        UsageError: no data, or the folder belongs to something else.
        DataError: the data is missing or malformed.
        CheckpointError: the checkpoint to resume from is damaged.
        KeyboardInterrupt: interrupted; the message says from which step the same call resumes.
    """
    import keras

    from tfzoo.data import seq2seq
    from tfzoo.training import checkpoints, fit

    run_dir = Path(run_dir)
    recipe = dataclasses.replace(
        recipe,
        data=dataclasses.replace(
            recipe.data,
            train=tuple(data) or recipe.data.train,
            validation=tuple(validation_data) or recipe.data.validation,
        ),
    )
    if not recipe.data.train:
        raise UsageError(f"the recipe {recipe.name!r} names no data; give some, such as --data=tsv:train.tsv.")
    recipe, tokenizer = _prepare(recipe, run_dir)

    def batches(specs: tuple[str, ...], **options: Any) -> Any:
        return seq2seq(
            specs,
            tokenizer,
            batch_tokens=recipe.data.batch_tokens,
            batch_size=recipe.data.batch_size,
            max_source_length=recipe.data.max_source_length,
            max_target_length=recipe.data.max_target_length,
            seed=recipe.data.seed,
            **options,
        )

    if verbose is None:
        verbose = 1 if sys.stdout.isatty() else 2
    keras.utils.set_random_seed(recipe.training.seed)
    try:
        fit(
            build_model(recipe),
            lambda start_step: batches(recipe.data.train, repeat=True, start_step=start_step),
            recipe.training,
            run_dir,
            validation_dataset=batches(recipe.data.validation, shuffle=False) if recipe.data.validation else None,
            verbose=verbose,
        )
    except KeyboardInterrupt:
        step = max(checkpoints.steps(run_dir), default=0)
        raise KeyboardInterrupt(f"interrupted; the same command resumes {run_dir} from step {step}.") from None
    return Run(run_dir)


def _prepare(recipe: Recipe, run_dir: Path) -> tuple[Recipe, TokenizerPair]:
    """Makes the folder with its recipe and tokenizer, or checks that it holds this very recipe."""
    from tfzoo.training import checkpoints

    if (run_dir / REQUESTED).exists():
        started = _read_recipe(run_dir / REQUESTED)
        changed = [
            name
            for name in differences(started, recipe)
            if name not in _FREE_FIELDS and name.split(".")[0] not in _FREE_FIELDS
        ]
        if changed and checkpoints.steps(run_dir):
            raise UsageError(
                f"{run_dir} was started with {changed[0]}={_field(started, changed[0])}; received "
                f"{changed[0]}={_field(recipe, changed[0])}. Resume it with the same recipe and data, or train into "
                "another run_dir."
            )
        if changed:  # nothing is trained yet that another recipe could spoil
            shutil.rmtree(run_dir / TOKENIZER, ignore_errors=True)
    elif run_dir.exists() and (not run_dir.is_dir() or any(path.name != f".{REQUESTED}" for path in run_dir.iterdir())):
        raise UsageError(f"`run_dir` {run_dir} exists and is not a run; name another folder.")
    if not (run_dir / TOKENIZER).exists():
        for spec in (*recipe.data.train, *recipe.data.validation):
            read(spec)  # what is misspelt should not wait for the tokenizer
        tokenizer = train_pair(recipe.tokenizer, _records(recipe.data.train), recipe.model.vocabulary_size)
        examples = _first_sources(recipe.data.validation or recipe.data.train)
        run_dir.mkdir(parents=True, exist_ok=True)
        _write(run_dir / REQUESTED, to_json(recipe))
        _write(run_dir / EXAMPLES, json.dumps(examples, ensure_ascii=False, indent=2) + "\n")
        aside = run_dir / f".{TOKENIZER}"
        shutil.rmtree(aside, ignore_errors=True)
        tokenizer.save(aside)
        aside.rename(run_dir / TOKENIZER)
    tokenizer = TokenizerPair.load(run_dir / TOKENIZER)
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(
            recipe.model,
            vocabulary_size=tokenizer.target.vocabulary_size,
            source_vocabulary_size=None if tokenizer.shared else tokenizer.source.vocabulary_size,
        ),
    )
    _write(run_dir / RECIPE, to_json(recipe))
    return recipe, tokenizer


def _field(recipe: Recipe, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), recipe)


def _records(specs: Sequence[str]) -> Iterator[tuple[str, str]]:
    num_records = 0
    for spec in specs:
        for source, target in read(spec):
            yield source, target
            num_records += 1
    logging.info("training the tokenizer on %d examples", num_records)


def _first_sources(specs: Sequence[str]) -> list[str]:
    sources = (record[0] for spec in specs for record in read(spec))
    return list(itertools.islice(dict.fromkeys(itertools.islice(sources, 100)), NUM_EXAMPLES))


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _read_recipe(path: Path) -> Recipe:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent} is not a run: {path.name} is missing. Name a folder that `tfzoo train` wrote."
        ) from None
    except (RecipeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); restore it, or train into another run_dir.") from error


def load(path: str | os.PathLike[str], runtime: str | None = None) -> Predictor:
    """Opens a run or an artifact.

    Args:
        path: the folder of either.
        runtime: "onnx" (imports no TensorFlow) or "saved_model" for an artifact, "keras" for a run; None = what fits.

    Returns: a `Run` or an `Artifact`; either is called with a list of texts.

    Raises:
        UsageError: the folder is neither, or does not have the runtime.
        ArtifactError: the artifact is damaged.
        CheckpointError: the run is damaged, or has no checkpoint yet.
    """
    path = Path(path)
    if (path / MANIFEST).exists():
        if runtime == "keras":
            raise UsageError(f"{path} is an artifact, which has no Keras model; use runtime onnx or saved_model.")
        return Artifact(path, runtime)  # type: ignore[arg-type]  # it checks the name
    if not (path / RECIPE).exists():
        if (path / REQUESTED).exists():
            raise CheckpointError(f"{path} holds no checkpoint; train the run first.")
        raise UsageError(
            f"{path} is neither a run (no {RECIPE}) nor an artifact (no {MANIFEST}); "
            "name a folder that `tfzoo train` or `tfzoo export` wrote."
        )
    if runtime not in (None, "keras"):
        raise UsageError(f"{path} is a run, which only Keras computes; export it to use runtime={runtime!r}.")
    return Run(path)


def evaluate(
    path: str | os.PathLike[str], data: Sequence[str] | str, *, runtime: str | None = None, **options: Any
) -> dict[str, Any]:
    """Scores a run or an artifact on data.

    Args:
        path: the folder of either.
        data: data specifications.
        runtime: see `load`.
        **options: decoding options that differ from the recipe's.

    Returns: the scores that the recipe names (see `tfzoo.evaluation.score`), `num_sources` (distinct ones: pairs with
        the same source are references of each other), and `loss` (nats per token), `perplexity`, `token_accuracy`.

    Raises:
        UsageError: `path` is neither, no data is named, or an option is unknown or out of its range.
        DataError: the data is missing or malformed.
    """
    from tfzoo.evaluation import score
    from tfzoo.evaluation.likelihood import likelihood

    predictor = load(path, runtime)
    specs = [data] if isinstance(data, str) else list(data)
    if not specs:
        raise UsageError("`data` names nothing to score on; give at least one, such as tsv:test.tsv.")
    records = [(record[0], record[1]) for spec in specs for record in read(spec)]
    references: dict[str, list[str]] = {}
    for source, target in records:
        references.setdefault(source, []).append(target)
    sources = sorted(references, key=len)  # texts of similar length are decoded together
    predictions = tqdm(
        predictor.generate(sources, **options), "decoding", len(sources), unit=" texts", leave=False, disable=None
    )
    outputs = [found[0].output for found in predictions]
    return {
        "num_sources": len(sources),
        **score(_metrics(predictor), outputs, [references[source] for source in sources]),
        **likelihood(predictor.backend.logits, records, predictor.tokenizer, predictor.max_length),
    }


def _metrics(predictor: Predictor) -> tuple[str, ...]:
    if isinstance(predictor, Run):
        return predictor.recipe.evaluation.metrics
    recipe = predictor.manifest["recipe"] if isinstance(predictor, Artifact) else None
    return tuple(recipe["evaluation"]["metrics"]) if recipe else EvaluationConfig().metrics


def predict(
    path: str | os.PathLike[str],
    texts: Iterable[str],
    *,
    runtime: str | None = None,
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Answers texts as they come, in order.

    Args:
        path: the folder of a run or an artifact.
        texts: inputs; read as the answers are asked for.
        runtime: see `load`.
        batch_size: texts that are read and answered together; 1 = each at once, slower for many.
        **options: decoding options that differ from the recipe's.

    Returns: for each text `input`, `output` and `score` (log-probability in nats divided by the length penalty) of the
        best answer, and `alternatives`, the other `num_return_sequences - 1` with their scores.

    Raises:
        UsageError: an option is unknown or out of its range; before any text is read.
    """
    predictor = load(path, runtime)
    for_answers, for_inputs = itertools.tee(texts)
    answers = predictor.generate(for_answers, batch_size=batch_size, **options)
    return (_answer(text, found) for text, found in zip(for_inputs, answers, strict=True))


def _answer(text: str, predictions: list[Prediction]) -> dict[str, Any]:
    best, *others = predictions
    return {
        "input": text,
        "output": best.output,
        "score": best.score,
        "alternatives": [{"output": other.output, "score": other.score} for other in others],
    }


def export_run(
    run_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    formats: Sequence[str] = ("saved_model", "onnx"),
    *,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Exports a run's best checkpoint and proves it; see `tfzoo.export`.

    Args:
        run_dir: the run.
        output_dir: the artifact's folder; must be absent or empty.
        formats: "saved_model" and "onnx", or one of them.
        metrics: scores for the model card besides those of the checkpoint.

    Returns: the artifact's manifest.

    Raises:
        UsageError: `run_dir` is not a run, an unknown format, or `output_dir` is not empty.
        CheckpointError: the run is damaged, or has no checkpoint yet.
        ArtifactMismatch: a format answers otherwise than the model; nothing is left behind.
    """
    from tfzoo.export.exporter import export

    run = Run(run_dir)
    return export(
        run.model,
        run.tokenizer,
        output_dir,
        formats,
        decoding=run.recipe.decoding,
        recipe=dataclasses.asdict(run.recipe),
        metrics={**run.checkpoint.history[-1], **(metrics or {})},
        texts=_read_examples(Path(run_dir) / EXAMPLES),
    )


def _read_examples(path: Path) -> list[str]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error}); write a JSON list of a few source texts there."
        ) from error


def verify(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Proves an artifact again, anywhere and without the model; see `tfzoo.export.verify`.

    Args:
        directory: the artifact.

    Returns: what was compared and how far it differed.

    Raises:
        ArtifactMismatch: the first difference: a file, a recorded answer, or one format from the other.
        ArtifactError: the folder is not an artifact, or a damaged one.
    """
    from tfzoo.export.verify import verify

    return verify(directory)
