"""What a recipe's data is: its batches, the texts and labels in it, and a few inputs of its kind."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tfzoo.data.config import CausalLmDataConfig, DataConfig
from tfzoo.data.corpus import read_pairs
from tfzoo.data.labelled import read_labelled, read_words, text_labels, word_labels
from tfzoo.data.pairs import FIELDS
from tfzoo.data.prepared import RECIPE, Prepared, open_prepared, prepared_directory
from tfzoo.data.sharding import Shard
from tfzoo.data.sources import read
from tfzoo.errors import RecipeError, UsageError
from tfzoo.recipes.recipe import Recipe, from_json
from tfzoo.text import TokenizerPair
from tfzoo.text.special_tokens import BERT_MASK

if TYPE_CHECKING:
    import tensorflow as tf

NUM_EXAMPLES = 5
_MASKED_WORDS = 12
_ONE_DEVICE = Shard()

Specs = tuple[str, ...]
# The sections of a recipe have types that go with its task, which each function below knows.
_Batches = Callable[[Any, Specs, TokenizerPair, dict[str, Any]], "tf.data.Dataset"]


def check_devices(recipe: Recipe, num_devices: int) -> None:
    """Raises RecipeError where several devices cannot share the recipe's batches."""
    data = recipe.data
    if num_devices > 1 and isinstance(data, CausalLmDataConfig) and data.examples == "contiguous":
        raise RecipeError(
            "`data.examples` 'contiguous' needs one device, on which a row's state goes on from batch to batch; "
            f"received {num_devices} devices. Use --strategy=single, or data.examples=packed."
        )


def training_batches(
    recipe: Recipe,
    tokenizer: TokenizerPair,
    start_step: int = 0,
    shard: Shard = _ONE_DEVICE,
    static_shapes: bool = False,
) -> tf.data.Dataset:
    """Endless batches, each epoch in an order of its own.

    Args:
        recipe: with its data, and the labels in it.
        tokenizer: of the run.
        start_step: batches to skip.
        shard: the devices that they are for; all processes' shares are the batches of one device. Of a prepared corpus,
            each share is read in parts of its own.
        static_shapes: whether batches have one of a few shapes, for TPUs, also where `data.static_shapes` does not ask
            for it.

    Raises:
        UsageError: a prepared corpus that was made otherwise than the recipe says.
    """
    data = recipe.data
    options: dict[str, Any] = {
        "seed": data.seed,
        "repeat": True,
        "start_step": start_step,
        "static_shapes": static_shapes or data.static_shapes,
    }
    if recipe.task == "text_classification":
        options["class_weights"] = data.class_weights  # type: ignore[union-attr]  # by the task
    if recipe.task == "seq2seq":
        options["temperature"] = data.temperature  # type: ignore[union-attr]
    if isinstance(data, (DataConfig, CausalLmDataConfig)) and not _learns_answers(recipe):
        options["deterministic"] = data.deterministic
    if is_prepared(data.train):
        options["shard"] = shard
    batches = _BATCHES[recipe.task](recipe, data.train, tokenizer, options)
    return batches if "shard" in options else shard.batches(batches)


def validation_batches(recipe: Recipe, tokenizer: TokenizerPair) -> tf.data.Dataset:
    """One epoch in a fixed order; of a language model's documents, windows that score every token once."""
    data = recipe.data
    if isinstance(data, CausalLmDataConfig) and data.examples != "prompt_answer":
        from tfzoo.data import causal_lm_windows

        return causal_lm_windows(
            data.validation,
            tokenizer.target,
            sequence_length=data.sequence_length,
            stride=data.stride or data.sequence_length // 2,
            batch_size=data.batch_size,
            cleaning=data.cleaning,
        )
    return _BATCHES[recipe.task](recipe, data.validation, tokenizer, {"seed": data.seed, "shuffle": False})


def is_prepared(specs: Specs) -> bool:
    """Whether the data is a corpus that `tfzoo prepare` wrote."""
    return any(spec.startswith("prepared:") for spec in specs)


def prepared(recipe: Recipe, specs: Specs) -> Prepared | None:
    """Opens the prepared corpus that data specifications name; None when they name none.

    Raises:
        UsageError: the recipe's task is another, or its tokenizer or limits are; or there are other specifications.
        DataError: the folder holds no finished corpus, or a damaged one.
    """
    if not is_prepared(specs):
        return None
    directory = prepared_directory(specs)
    found = open_prepared(directory)  # type: ignore[arg-type]  # there is one
    if found.statistics["task"] != recipe.task:
        raise UsageError(
            f"{directory} was prepared for the task {found.statistics['task']!r}; the recipe {recipe.name!r} is for "
            f"{recipe.task!r}. Prepare the corpus for it."
        )
    if found.statistics["tokenizer"]["is_trained"]:
        made_for = from_json((found.directory / RECIPE).read_text(encoding="utf-8"))
        for name in ("tokenizer", "model.vocabulary_size"):
            theirs, ours = (functools.reduce(getattr, name.split("."), one) for one in (made_for, recipe))
            if theirs != ours:
                raise UsageError(
                    f"{directory} was prepared with {name}={theirs}; received {name}={ours}. Set it in the recipe as "
                    "it was, or prepare the corpus again."
                )
    return found


def look_up(recipe: Recipe, spec: str) -> None:
    """Raises what `records`, or `prepared`, does when a data specification is misspelt or does not fit."""
    if prepared(recipe, (spec,)) is None:
        records(recipe, spec)


def records(recipe: Recipe, spec: str) -> Iterator[tuple[str, ...]]:
    """Yields the texts of each record of a data specification, which is looked up at once.

    Args:
        recipe: says what kind of records they are.
        spec: one of the recipe's data specifications, or another one.

    Raises:
        UsageError: an unknown specification, or one of data of another kind.
        DataError: missing or malformed data.
    """
    model: Any = recipe.model
    if recipe.task == "text_classification":
        separator = recipe.data.label_separator  # type: ignore[union-attr]  # by the task
        return (one.texts for one in read_labelled(spec, model.num_texts, model.problem, separator))
    if recipe.task == "token_classification":
        return ((" ".join(one.words),) for one in read_words(spec))
    if recipe.task == "question_answering":
        from tfzoo.data.squad import read_questions

        return ((one.question, one.context) for one in read_questions(spec))
    if recipe.task == "text_embedding":
        return read(spec, fields=FIELDS)
    if isinstance(recipe.data, DataConfig):
        return read_pairs(spec, is_reversed=recipe.data.reversed, one_column=recipe.data.noise is not None)
    return read(spec, columns=1 if _holds_documents(recipe) else 2)


def texts(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """Yields what a tokenizer is trained on: the texts of the training data's records."""
    if recipe.task == "question_answering":
        from tfzoo.data.squad import read_texts

        return read_texts(recipe.data.train)
    return (record for spec in recipe.data.train for record in records(recipe, spec))


def labels(recipe: Recipe) -> tuple[str, ...]:
    """Returns the labels of a classifier: those that the recipe names, or else those of its training data in order.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data, or fewer labels than a classifier tells apart.
    """
    model: Any = recipe.model
    if recipe.task not in ("text_classification", "token_classification"):
        return ()
    if model.labels:
        return model.labels
    if recipe.task == "token_classification":
        return word_labels(recipe.data.train)
    return text_labels(
        recipe.data.train,
        num_texts=model.num_texts,
        problem=model.problem,
        label_separator=recipe.data.label_separator,  # type: ignore[union-attr]  # by the task
    )


def examples(recipe: Recipe) -> list[str]:
    """Returns a few inputs for the proof of an export, from all over the data, as `tfzoo predict` takes them.

    Of a document it is how it begins; for "fill_mask" with a mask in it. The two texts of one input have a tab between
    them.
    """
    specs = recipe.data.validation or recipe.data.train
    if (corpus := prepared(recipe, specs)) is not None:
        return corpus.examples()
    inputs = [*dict.fromkeys(_input(recipe, record) for spec in specs for record in records(recipe, spec))]
    chosen = [inputs[len(inputs) * place // NUM_EXAMPLES] for place in range(min(NUM_EXAMPLES, len(inputs)))]
    return [shortened(recipe, one) for one in chosen]


def shortened(recipe: Recipe, text: str) -> str:
    """Returns what `examples` gives of the text of an input: of a document how it begins, for "fill_mask" masked."""
    if recipe.task == "fill_mask":
        return masked(beginning(text, _MASKED_WORDS))
    return beginning(text) if _holds_documents(recipe) else text


def beginning(document: str, num_words: int = 6) -> str:
    """The first words of a document, as they stand there."""
    match = re.match(rf"\s*(?:\S+\s+){{0,{num_words - 1}}}\S{{1,20}}", document)
    return match[0] if match else document


def masked(text: str) -> str:
    """Puts [MASK] in the place of the word in the middle, or of the character where there is but one word.

    >>> masked("A dog runs home.")
    'A dog [MASK] home.'
    """
    words = [match.span() for match in re.finditer(r"\S+", text)]
    start, end = words[len(words) // 2] if len(words) > 1 else (len(text) // 2, len(text) // 2 + 1)
    return text[:start] + BERT_MASK + text[end:]


def _learns_answers(recipe: Recipe) -> bool:
    return isinstance(recipe.data, CausalLmDataConfig) and recipe.data.examples == "prompt_answer"


def _holds_documents(recipe: Recipe) -> bool:
    return recipe.task in ("causal_lm", "fill_mask") and not _learns_answers(recipe)


def _input(recipe: Recipe, record: tuple[str, ...]) -> str:
    if getattr(recipe.model, "num_texts", 1) == 2 and not _holds_documents(recipe):
        return "\t".join(text.replace("\t", " ") for text in record)
    return record[0]


def _seq2seq(recipe: Any, specs: Specs, tokenizer: TokenizerPair, options: dict[str, Any]) -> tf.data.Dataset:
    from tfzoo.data import seq2seq

    return seq2seq(
        specs,
        tokenizer,
        batch_tokens=recipe.data.batch_tokens,
        batch_size=recipe.data.batch_size,
        max_source_length=recipe.data.max_source_length,
        max_target_length=recipe.data.max_target_length,
        is_reversed=recipe.data.reversed,
        noise=recipe.data.noise,
        noise_probability=recipe.data.noise_probability,
        cleaning=recipe.data.cleaning,
        **options,
    )


def _causal_lm(recipe: Any, specs: Specs, tokenizer: TokenizerPair, options: dict[str, Any]) -> tf.data.Dataset:
    from tfzoo.data import causal_lm, prompt_answer

    data = recipe.data
    sizes = {"sequence_length": data.sequence_length, "batch_size": data.batch_size}
    if data.examples == "prompt_answer":
        return prompt_answer(specs, tokenizer.target, separator=data.separator, **sizes, **options)
    return causal_lm(specs, tokenizer.target, examples=data.examples, cleaning=data.cleaning, **sizes, **options)


def _fill_mask(recipe: Any, specs: Specs, tokenizer: TokenizerPair, options: dict[str, Any]) -> tf.data.Dataset:
    from tfzoo.data import masked_lm

    return masked_lm(
        specs,
        tokenizer.target,  # type: ignore[arg-type]  # a recipe for an encoder asks for word pieces
        sequence_length=recipe.data.sequence_length,
        batch_size=recipe.data.batch_size,
        mask_probability=recipe.data.mask_probability,
        whole_word=recipe.data.whole_word,
        next_sentence=recipe.model.next_sentence,
        cleaning=recipe.data.cleaning,
        **options,
    )


def _text_classification(
    recipe: Any, specs: Specs, tokenizer: TokenizerPair, options: dict[str, Any]
) -> tf.data.Dataset:
    from tfzoo.data import classification

    return classification(
        specs,
        tokenizer.target,  # type: ignore[arg-type]
        labels=recipe.model.labels,
        num_texts=recipe.model.num_texts,
        problem=recipe.model.problem,
        sequence_length=recipe.data.sequence_length,
        batch_size=recipe.data.batch_size,
        label_separator=recipe.data.label_separator,
        **options,
    )


def _token_classification(
    recipe: Any, specs: Specs, tokenizer: TokenizerPair, options: dict[str, Any]
) -> tf.data.Dataset:
    from tfzoo.data import token_classification

    return token_classification(
        specs,
        tokenizer.target,  # type: ignore[arg-type]
        labels=recipe.model.labels,
        sequence_length=recipe.data.sequence_length,
        batch_size=recipe.data.batch_size,
        **options,
    )


def _text_embedding(recipe: Any, specs: Specs, tokenizer: TokenizerPair, options: dict[str, Any]) -> tf.data.Dataset:
    from tfzoo.data import text_pairs

    return text_pairs(
        specs,
        tokenizer.target,  # type: ignore[arg-type]
        sequence_length=recipe.data.sequence_length,
        batch_size=recipe.data.batch_size,
        **options,
    )


def _question_answering(
    recipe: Any, specs: Specs, tokenizer: TokenizerPair, options: dict[str, Any]
) -> tf.data.Dataset:
    from tfzoo.data import question_answering

    return question_answering(
        specs,
        tokenizer.target,  # type: ignore[arg-type]
        window_length=recipe.decoding.window_length,
        stride=recipe.decoding.stride,
        max_question_length=recipe.decoding.max_question_length,
        batch_size=recipe.data.batch_size,
        **options,
    )


_BATCHES: dict[str, _Batches] = {
    "seq2seq": _seq2seq,
    "causal_lm": _causal_lm,
    "fill_mask": _fill_mask,
    "text_classification": _text_classification,
    "token_classification": _token_classification,
    "text_embedding": _text_embedding,
    "question_answering": _question_answering,
}
