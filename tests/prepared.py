"""Two small corpora, their texts known, and what it takes to prepare them in seconds."""

import dataclasses
import random
from pathlib import Path

import numpy as np

import tfzoo
from tfzoo.recipes.recipe import Recipe
from tfzoo.text.config import TokenizerConfig

MAX_SOURCE, MAX_TARGET = 13, 11
_RANDOM = random.Random(3)


def _word(size: int) -> str:
    return "".join(_RANDOM.choice("abcdefg") for _ in range(size))


# 300 pairs, and 100 others that are told apart by their capitals; every tenth one twice.
LOWER = [(_word(_RANDOM.randint(1, 12)), _word(_RANDOM.randint(1, 10))) for _ in range(300)]
UPPER = [(_word(_RANDOM.randint(1, 12)).upper(), _word(_RANDOM.randint(1, 10))) for _ in range(100)]
TOO_LONG = [("abcdefgabcdef", "a"), ("a", "abcdefgabcd")]
DOCUMENTS = [_word(_RANDOM.randint(1, 30)) for _ in range(211)]


def pairs_recipe(**data) -> Recipe:
    recipe = tfzoo.recipe("transformer_tiny")
    return dataclasses.replace(
        recipe,
        tokenizer=TokenizerConfig(source="characters"),
        data=dataclasses.replace(
            recipe.data,
            max_source_length=MAX_SOURCE,
            max_target_length=MAX_TARGET,
            batch_tokens=96,
            **{"cleaning": ("whitespace", "exact_duplicates"), **data},
        ),
        model=dataclasses.replace(
            recipe.model, hidden_dim=8, intermediate_dim=16, num_heads=2, num_layers=1, max_sequence_length=16
        ),
        decoding=dataclasses.replace(recipe.decoding, max_length=10),
    )


def documents_recipe(**data) -> Recipe:
    recipe = tfzoo.recipe("gpt2_tiny")
    return dataclasses.replace(
        recipe,
        tokenizer=TokenizerConfig(source="characters"),
        data=dataclasses.replace(recipe.data, sequence_length=7, batch_size=6, **data),
        model=dataclasses.replace(
            recipe.model, vocabulary_size=40, pad_id=0, start_id=2, end_id=3, hidden_dim=8, num_layers=1, num_heads=2
        ),
        decoding=dataclasses.replace(recipe.decoding, max_length=10),
    )


def rows_recipe(**model) -> Recipe:
    recipe = tfzoo.recipe("bert_tiny")
    sizes = {"hidden_dim": 8, "intermediate_dim": 16, "num_layers": 1, "num_heads": 2}
    ids = {"vocabulary_size": 40, "start_id": 2, "end_id": 3, "mask_id": 4}
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, sequence_length=9, batch_size=6),
        model=dataclasses.replace(recipe.model, **sizes, **ids, **model),
    )


def write_pairs(folder: Path) -> list[str]:
    """Writes the pairs to two files; returns what names them."""
    for name, pairs in (("lower", LOWER + LOWER[::10] + TOO_LONG), ("upper", UPPER + UPPER[::10])):
        lines = [f" {source}\t{target}\n" for source, target in pairs]
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    return [f"tsv:{folder}/lower.tsv", f"tsv:{folder}/upper.tsv"]


def write_documents(folder: Path) -> str:
    (folder / "documents.txt").write_text("".join(f"{one}\n" for one in DOCUMENTS), encoding="utf-8")
    return f"text:{folder}/documents.txt"


def rows(batches, tokenizer) -> list[tuple[str, str]]:
    """The (source, target) texts of the rows that count."""
    found = []
    for inputs, labels, weights in batches:
        for source, target, weight in zip(inputs["encoder_token_ids"], labels, weights, strict=True):
            if weight.any():
                found.append((tokenizer.decode(source), tokenizer.decode(target[weight > 0])))
    return found


def labels(batches) -> np.ndarray:
    """The labels that count, one after the other."""
    return np.concatenate([one[weights > 0] for _, one, weights in batches])


def documents(ids, tokenizer) -> list[str]:
    """The texts between end tokens."""
    ends = np.flatnonzero(ids == tokenizer.end_id)
    return [tokenizer.decode(one) for one in np.split(ids, ends + 1)[:-1]]
