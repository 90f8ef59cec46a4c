"""Other people's tokenizers, given our tokenizer.json: the recorded ids, but for the differences that are listed."""

import json
import os

import pytest

from tests.consumers.clients import ask
from tests.text.test_conformance import SENTENCES, TOKENIZERS
from tfzoo.export.tokenizer_vectors import FILE
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


@pytest.mark.parametrize("client", CLIENTS)
def test_the_vectors_that_an_artifact_carries_hold(exported_group, client):
    """Every tokenizer.json of it; where readers are known to differ is what the file says itself."""
    cases = []
    for exported in exported_group.values():
        content = json.loads((exported.directory / FILE).read_text(encoding="ascii"))
        known = content["known_differences"]
        allowed = {group for group, one in known.items() if CLIENTS[client] in one["readers"]}
        cases += [((exported.directory / one["path"]).parent, one, allowed) for one in content["tokenizers"]]
    request = [
        {
            "folder": os.fspath(folder),
            "texts": [vector["text"] for vector in recorded["encode"]],
            "sequences": [vector["ids"] for vector in recorded["decode"]],
        }
        for folder, recorded, _ in cases
    ]
    answers = ask(client, {"tokenizers": request})
    for (folder, recorded, allowed), answer in zip(cases, answers, strict=True):
        differing = [
            (folder, vector)
            for kind, ours, theirs in (("encode", "ids", "ids"), ("decode", "text", "texts"))
            for vector, found in zip(recorded[kind], answer[theirs], strict=True)
            if found != vector[ours] and vector["group"] not in allowed
        ]
        assert differing == []
        assert len(answer["ids"]) > 200
        assert {len(vector["text"]) for vector in recorded["encode"]} >= {0, 1, 4000}
