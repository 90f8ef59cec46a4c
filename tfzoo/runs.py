"""What the command line does, as functions: train, load, evaluate, predict, export and verify."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfzoo import initial_checkpoint
from tfzoo.data.sharding import ByShard
from tfzoo.errors import CheckpointError, UsageError
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.recipes.recipe import TASKS, Recipe
from tfzoo.run_data import check_devices, training_batches, validation_batches
from tfzoo.run_export import check_export_dir, export_best
from tfzoo.run_export import export_run as export_run
from tfzoo.run_folder import RECIPE, REQUESTED, Run, build_model, join, prepare
from tfzoo.runtime.artifact import MANIFEST, Artifact
from tfzoo.runtime.encoder import Encoder
from tfzoo.runtime.head import Text
from tfzoo.runtime.loaded import Loaded
from tfzoo.runtime.predictor import BATCH_SIZE


def train(
    recipe: Recipe,
    run_dir: str | os.PathLike[str],
    *,
    data: Sequence[str] | str = (),
    validation_data: Sequence[str] | str = (),
    export_dir: str | os.PathLike[str] | None = None,
    strategy: str = "auto",
    verbose: int | None = None,
) -> Run:
    """Trains a recipe into a folder; called again with the same arguments, it resumes, on as many devices or others.

    Args:
        recipe: what to train.
        run_dir: an absent or empty folder, or that of the run to resume.
        data: one data specification or several, instead of the recipe's own.
        validation_data: the same for validation.
        export_dir: a folder that is to hold the run's artifact: after each checkpoint that changes the run's weights,
            being the best so far, they are exported and proved, and take its place.
        strategy: which devices and processes train it, see `tfzoo.training.strategy`. Of several processes each calls
            this with the same arguments, before it computes anything; the first one writes.
        verbose: 0 = silent, 1 = progress bar, 2 = a line for each checkpoint; None = a bar on a terminal, else lines.

    Returns: the run, with the weights of its best checkpoint, or the mean that the recipe asks for.

    Raises:
        UsageError: no data, a folder belongs to something else, the checkpoint to begin with does not fit, or the
            strategy finds no devices or workers.
        RecipeError: the recipe's data does not go with the strategy.
        DataError: the data is missing or malformed.
        CheckpointError: the checkpoint to resume from, or to begin with, is damaged.
        ArtifactMismatch: the artifact of the final weights is not equal to them; the run is whole. One of weights on
            the way is logged only, and the artifact before it stays.
        KeyboardInterrupt: SIGINT or SIGTERM; the message says from which step the same call resumes.
    """
    import keras

    from tfzoo.training import checkpoints, fit, strategies
    from tfzoo.training.replicas import Workers

    # Several workers have to be asked for before anything else.
    distribution = strategies.strategy(strategy)
    workers = Workers(distribution)
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
    if export_dir is not None:
        check_export_dir(Path(export_dir), recipe)
    check_devices(recipe, workers.num_devices)
    with workers.named_if_lost():
        if not workers.is_chief:
            workers.wait()
        initial = initial_checkpoint.read(recipe, run_dir)
        if workers.is_chief:
            recipe, tokenizer = prepare(recipe, run_dir, initial.tokenizer if initial else None)
            workers.wait()
        else:
            recipe, tokenizer = join(recipe, run_dir)
    if verbose is None:
        verbose = 1 if sys.stdout.isatty() else 2
    keras.utils.set_random_seed(recipe.training.seed)
    with distribution.scope():
        model = build_model(recipe, for_training=True)
        if initial:
            initial_checkpoint.load(model, initial)
    static_shapes = strategies.needs_static_shapes(distribution)
    try:
        fit(
            model,
            ByShard(lambda start_step, shard: training_batches(recipe, tokenizer, start_step, shard, static_shapes)),
            recipe.training,
            run_dir,
            validation_dataset=validation_batches(recipe, tokenizer) if recipe.data.validation else None,
            on_checkpoint=None if export_dir is None else functools.partial(export_best, run_dir, Path(export_dir)),
            verbose=verbose,
        )
    except KeyboardInterrupt:
        step = max(checkpoints.steps(run_dir), default=0)
        raise KeyboardInterrupt(f"interrupted; the same command resumes {run_dir} from step {step}.") from None
    if export_dir is not None and workers.is_chief:
        # Its last weights may be a mismatch that was logged, or the export of a killed run.
        export_best(run_dir, Path(export_dir), is_final=True)
    return Run(run_dir)


def _specs(data: Sequence[str] | str) -> tuple[str, ...]:
    return (data,) if isinstance(data, str) else tuple(data)


def load(path: str | os.PathLike[str], runtime: str | None = None) -> Loaded:
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
    path: str | os.PathLike[str],
    data: Sequence[str] | str,
    *,
    runtime: str | None = None,
    tokenizer: str | None = None,
    by_length: bool = False,
    worst: str | os.PathLike[str] | None = None,
    forced: str | os.PathLike[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Scores a run or an artifact on data.

    Args:
        path: the folder of either.
        data: one data specification or several.
        runtime: see `load`.
        tokenizer: of pairs, what counts as a word (see `tfzoo.evaluation.EvaluationConfig`); None = as the recipe says.
        by_length: of pairs, whether the scores of each bucket of source lengths are given too.
        worst: of pairs, a JSONL file to write: every output with its score, the worst first, by the recipe's first
            metric (see `tfzoo.evaluation.sentences.worst_first`).
        forced: of pairs, a JSONL file to write: how likely the model finds each target (see `score_pairs`).
        **options: decoding options that differ from the recipe's.

    Returns: of pairs, the scores that the recipe names (see `tfzoo.evaluation.score`), `num_sources` (distinct ones:
        pairs with the same source are references of each other), and `loss` (nats per token), `perplexity`,
        `token_accuracy`; `by_source_length`, if asked for. Of documents, what `tfzoo.evaluation.perplexity` returns. Of
        questions, what `tfzoo.evaluation.squad.evaluate_question_answering` does; of an encoder's other tasks, what the
        function in `tfzoo.evaluation.encoder.ENCODER_SCORES` does.

    Raises:
        UsageError: `path` is neither, no data is named, or an option is unknown or out of its range.
        DataError: the data is missing or malformed.
    """
    predictor = load(path, runtime)
    specs = _specs(data)
    if not specs:
        raise UsageError("`data` names nothing to score on; give at least one, such as tsv:test.tsv.")
    recipe = _recipe(predictor)
    of_pairs = {"tokenizer": tokenizer, "by_length": by_length, "worst": worst, "forced": forced}
    is_of_documents = predictor.task == "causal_lm" and recipe["data"]["examples"] != "prompt_answer"
    if is_of_documents or isinstance(predictor.predictor, Encoder):
        if given := [name for name, value in of_pairs.items() if value]:
            raise UsageError(f"`{given[0]}` is for pairs of a source and a target, which this model is not scored on.")
    if isinstance(predictor.predictor, Encoder):
        return _evaluate_encoder(predictor.predictor, specs, recipe, options)
    if is_of_documents:
        return _evaluate_documents(predictor, specs, recipe, options)
    from tfzoo.evaluation.pairs import evaluate_pairs

    return evaluate_pairs(
        predictor,
        specs,
        recipe["evaluation"],
        options,
        is_reversed=recipe["data"].get("reversed", False),
        **of_pairs,  # type: ignore[arg-type]  # each of its own
    )


def _recipe(predictor: Loaded) -> dict[str, Any]:
    """Of its recipe's fields what an evaluation needs; those of an artifact that was exported without one are usual."""
    if isinstance(predictor, Run):
        return dataclasses.asdict(predictor.recipe)
    recipe = predictor.manifest["recipe"] if isinstance(predictor, Artifact) else None
    return recipe or {
        "evaluation": dataclasses.asdict(EvaluationConfig()),
        "data": dataclasses.asdict(TASKS[predictor.task].data()) | {"sequence_length": predictor.max_length},
    }


def score_pairs(
    path: str | os.PathLike[str], pairs: Iterable[tuple[str, str]], *, runtime: str | None = None
) -> Iterator[dict[str, Any]]:
    """Tells how likely a run or an artifact finds given targets (forced decoding); nothing is searched.

    Args:
        path: the folder of either.
        pairs: (source, target) texts, or (prompt, answer).
        runtime: see `load`.

    Returns: for each pair, in order, `source`, `target`, `num_tokens` (the end token included), `log_prob` (nats, of
        the whole target) and `perplexity` (per token); None for a target that is longer than the model's positions.

    Raises:
        UsageError: the model does not write text, or `path` is neither.
    """
    from tfzoo.evaluation.pairs import score_pairs

    return score_pairs(load(path, runtime), pairs)


def _evaluate_documents(
    predictor: Loaded, specs: tuple[str, ...], recipe: dict[str, Any], options: dict[str, Any]
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


def _evaluate_encoder(
    encoder: Encoder, specs: tuple[str, ...], recipe: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    answering = encoder.options(**options)
    if answering is not None:
        from tfzoo.evaluation.squad import evaluate_question_answering

        return evaluate_question_answering(encoder.backend.logits, specs, encoder.pieces, answering)
    from tfzoo.evaluation.encoder import ENCODER_SCORES

    score = ENCODER_SCORES[encoder.task]
    return score(encoder.backend.logits, specs, encoder.pieces, encoder.head, recipe["data"])


def predict(
    path: str | os.PathLike[str],
    texts: Iterable[Text],
    *,
    runtime: str | None = None,
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Answers texts as they come, in order.

    Args:
        path: the folder of a run or an artifact.
        texts: inputs, (text_a, text_b) for a model of two texts, or the two with a tab between them; read as the
            answers are asked for.
        runtime: see `load`.
        batch_size: texts that are read and answered together; 1 = each at once, slower for many.
        **options: decoding options that differ from the recipe's, and `token_log_probs`: whether each answer has
            `tokens`, a list of {"token": its text, "log_prob": nats}.

    Returns: for each text `input`, `output` and `score`. Of a model that generates, the score is the output's
        log-probability in nats divided by the length penalty, and `alternatives` holds the other
        `num_return_sequences - 1` with their scores. Of an encoder, the score is the probability of what is least
        certain in the output, and there is besides, by task: `labels` and `scores` of all classes, best first; `words`
        with their `labels` and `scores`; the likeliest `tokens` and their `scores` for each [MASK]. The output of
        "text_embedding" is a vector, without a score.

    Raises:
        UsageError: an option is unknown or out of its range; before any text is read.
    """
    if isinstance(texts, str):
        raise UsageError("`texts` must be a list of strings; received one string. Put it into a list.")
    return answer(load(path, runtime), texts, batch_size=batch_size, **options)


def answer(
    predictor: Loaded,
    texts: Iterable[Text],
    *,
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Answers texts by a run or an artifact that is loaded already; see `predict`."""
    for_answers, for_inputs = itertools.tee(texts)
    answers = predictor.answer(for_answers, batch_size=batch_size, **options)
    return ({"input": text, **found} for text, found in zip(for_inputs, answers, strict=True))


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
