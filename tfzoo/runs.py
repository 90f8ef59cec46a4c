"""What the command line does, as functions: train, load, evaluate, predict, export and verify."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfzoo.data.config import CausalLmDataConfig
from tfzoo.data.sources import read
from tfzoo.errors import CheckpointError, UsageError
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.run_data import training_batches, validation_batches
from tfzoo.run_folder import RECIPE, REQUESTED, Run, build_model, prepare, read_examples
from tfzoo.runtime.artifact import MANIFEST, Artifact
from tfzoo.runtime.predictor import BATCH_SIZE, Prediction, Predictor


def train(
    recipe: Recipe,
    run_dir: str | os.PathLike[str],
    *,
    data: Sequence[str] | str = (),
    validation_data: Sequence[str] | str = (),
    verbose: int | None = None,
) -> Run:
    """Trains a recipe into a folder; called again with the same arguments, it resumes.

    Args:
        recipe: what to train.
        run_dir: an absent or empty folder, or that of the run to resume.
        data: one data specification or several, instead of the recipe's own.
        validation_data: the same for validation.
        verbose: 0 = silent, 1 = progress bar, 2 = a line for each checkpoint; None = a bar on a terminal, else lines.

    Returns: the run, with the weights of its best checkpoint, or the mean that the recipe asks for.

    Raises:
        UsageError: no data, or the folder belongs to something else.
        DataError: the data is missing or malformed.
        CheckpointError: the checkpoint to resume from is damaged.
        KeyboardInterrupt: SIGINT or SIGTERM; the message says from which step the same call resumes.
    """
    import keras

    from tfzoo.training import checkpoints, fit

    run_dir = Path(run_dir)
    recipe = dataclasses.replace(
        recipe,
        data=dataclasses.replace(
            recipe.data,
            train=_specs(data) or recipe.data.train,
            validation=_specs(validation_data) or recipe.data.validation,
        ),
    )
    if not recipe.data.train:
        raise UsageError(f"the recipe {recipe.name!r} names no data; give some, such as --data=tsv:train.tsv.")
    recipe, tokenizer = prepare(recipe, run_dir)
    if verbose is None:
        verbose = 1 if sys.stdout.isatty() else 2
    keras.utils.set_random_seed(recipe.training.seed)
    try:
        fit(
            build_model(recipe, for_training=True),
            lambda start_step: training_batches(recipe, tokenizer, start_step),
            recipe.training,
            run_dir,
            validation_dataset=validation_batches(recipe, tokenizer) if recipe.data.validation else None,
            verbose=verbose,
        )
    except KeyboardInterrupt:
        step = max(checkpoints.steps(run_dir), default=0)
        raise KeyboardInterrupt(f"interrupted; the same command resumes {run_dir} from step {step}.") from None
    return Run(run_dir)


def _specs(data: Sequence[str] | str) -> tuple[str, ...]:
    return (data,) if isinstance(data, str) else tuple(data)


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
        data: one data specification or several.
        runtime: see `load`.
        **options: decoding options that differ from the recipe's.

    Returns: of pairs, the scores that the recipe names (see `tfzoo.evaluation.score`), `num_sources` (distinct ones:
        pairs with the same source are references of each other), and `loss` (nats per token), `perplexity`,
        `token_accuracy`. Of documents, what `tfzoo.evaluation.perplexity` returns.

    Raises:
        UsageError: `path` is neither, no data is named, or an option is unknown or out of its range.
        DataError: the data is missing or malformed.
    """
    predictor = load(path, runtime)
    specs = _specs(data)
    if not specs:
        raise UsageError("`data` names nothing to score on; give at least one, such as tsv:test.tsv.")
    recipe = _recipe(predictor)
    if predictor.task == "causal_lm" and recipe["data"]["examples"] != "prompt_answer":
        return _evaluate_documents(predictor, specs, recipe, options)
    return _evaluate_pairs(predictor, specs, recipe, options)


def _recipe(predictor: Predictor) -> dict[str, Any]:
    """Of its recipe's fields what an evaluation needs; those of an artifact that was exported without one are usual."""
    if isinstance(predictor, Run):
        return dataclasses.asdict(predictor.recipe)
    recipe = predictor.manifest["recipe"] if isinstance(predictor, Artifact) else None
    return recipe or {
        "evaluation": dataclasses.asdict(EvaluationConfig()),
        "data": dataclasses.asdict(CausalLmDataConfig()) | {"sequence_length": predictor.max_length},
    }


def _evaluate_pairs(
    predictor: Predictor, specs: tuple[str, ...], recipe: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    from tfzoo.evaluation import score
    from tfzoo.evaluation.likelihood import likelihood

    records = [(record[0], record[1]) for spec in specs for record in read(spec)]
    references: dict[str, list[str]] = {}
    for source, target in records:
        references.setdefault(source, []).append(target)
    sources = sorted(references, key=len)  # texts of similar length are decoded together
    predictions = tqdm(
        predictor.generate(sources, **options), "decoding", len(sources), unit=" texts", leave=False, disable=None
    )
    outputs = [found[0].output for found in predictions]
    scores = {
        "num_sources": len(sources),
        **score(tuple(recipe["evaluation"]["metrics"]), outputs, [references[source] for source in sources]),
    }
    if predictor.task == "seq2seq":
        return scores | likelihood(predictor.backend.logits, records, predictor.tokenizer, predictor.max_length)
    from tfzoo.evaluation.perplexity import answer_likelihood

    return scores | answer_likelihood(
        predictor.backend.logits,
        specs,
        predictor.tokenizer.target,
        sequence_length=predictor.max_length,
        separator=predictor.tokenizer.prompt_suffix,
    )


def _evaluate_documents(
    predictor: Predictor, specs: tuple[str, ...], recipe: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    from tfzoo.evaluation.perplexity import perplexity

    if options:
        raise UsageError(f"the perplexity of documents takes no decoding options; received {', '.join(options)}.")
    data = recipe["data"]
    return perplexity(
        predictor.backend.logits,
        specs,
        predictor.tokenizer.target,
        sequence_length=data["sequence_length"],
        stride=data["stride"] or data["sequence_length"] // 2,
        cleaning=data["cleaning"],
    )


def predict(
    path: str | os.PathLike[str],
    texts: Iterable[str],
    *,
    runtime: str | None = None,
    batch_size: int = BATCH_SIZE,
    token_log_probs: bool = False,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Answers texts as they come, in order.

    Args:
        path: the folder of a run or an artifact.
        texts: inputs; read as the answers are asked for.
        runtime: see `load`.
        batch_size: texts that are read and answered together; 1 = each at once, slower for many.
        token_log_probs: whether each answer has `tokens`, a list of {"token": its text, "log_prob": nats}.
        **options: decoding options that differ from the recipe's.

    Returns: for each text `input`, `output` and `score` (log-probability in nats divided by the length penalty) of the
        best answer, and `alternatives`, the other `num_return_sequences - 1` with their scores.

    Raises:
        UsageError: an option is unknown or out of its range; before any text is read.
    """
    if isinstance(texts, str):
        raise UsageError("`texts` must be a list of strings; received one string. Put it into a list.")
    return answer(load(path, runtime), texts, batch_size=batch_size, token_log_probs=token_log_probs, **options)


def answer(
    predictor: Predictor,
    texts: Iterable[str],
    *,
    batch_size: int = BATCH_SIZE,
    token_log_probs: bool = False,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Answers texts by a run or an artifact that is loaded already; see `predict`."""

    def describe(prediction: Prediction) -> dict[str, Any]:
        described: dict[str, Any] = {"output": prediction.output, "score": prediction.score}
        if token_log_probs:
            decode = predictor.tokenizer.target.decode
            pairs = zip(prediction.token_ids, prediction.log_probs, strict=True)
            described["tokens"] = [{"token": decode([one]), "log_prob": log_prob} for one, log_prob in pairs]
        return described

    for_answers, for_inputs = itertools.tee(texts)
    answers = predictor.generate(for_answers, batch_size=batch_size, **options)
    return (
        {"input": text, **describe(found[0]), "alternatives": [describe(other) for other in found[1:]]}
        for text, found in zip(for_inputs, answers, strict=True)
    )


def export_run(
    run_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    formats: Sequence[str] = ("saved_model", "onnx"),
    *,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Exports a run's weights and proves them; see `tfzoo.export`.

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
        metrics={**run.metrics, **(metrics or {})},
        texts=read_examples(Path(run_dir)),
    )


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
