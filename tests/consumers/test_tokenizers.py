"""Other people's tokenizers, given our tokenizer.json: the recorded ids, but for the differences that are listed."""

import os

import pytest

from tests.consumers.clients import ask
from tests.text.test_conformance import SENTENCES, TOKENIZERS
from tfzoo.text import conformance

CLIENTS = {"tokenizers_client.py": "tokenizers", "tokenizers_client.mjs": "transformers.js"}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Each tokenizer with its folder and vectors."""
    made = []
    for name, train in TOKENIZERS.items():
        tokenizer, folder = train(), tmp_path_factory.mktemp(name)
        tokenizer.save(folder)
        made.append((tokenizer, folder, conformance.vectors(tokenizer, SENTENCES)))
    return made


@pytest.mark.parametrize("client", CLIENTS)
def test_ids_and_texts_are_the_recorded_ones(cases, client):
    request = [
        {
            "folder": os.fspath(folder),
            "texts": [vector["text"] for vector in vectors.encode],
            "sequences": [vector["ids"] for vector in vectors.decode],
        }
        for _, folder, vectors in cases
    ]
    differing, known = set(), set()
    answers = ask(client, {"tokenizers": request})
    for (tokenizer, _, vectors), answer in zip(cases, answers, strict=True):
        differences = conformance.known_differences(tokenizer)
        allowed = {group for group, one in differences.items() if CLIENTS[client] in one["readers"]}
        found = set()
        for vector, ids in zip(vectors.encode, answer["ids"], strict=True):
            if ids != vector["ids"]:
                found.add((vector["group"], vector["text"]))
        for vector, text in zip(vectors.decode, answer["texts"], strict=True):
            if text != vector["text"]:
                found.add((vector["group"], str(vector["ids"])))
        assert {one for one in found if one[0] not in allowed} == set()
        differing |= {group for group, _ in found}
        known |= allowed
    assert differing == known
