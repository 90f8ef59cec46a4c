"""tokenizer_vectors.json: true for every reader of the artifact, and a reader that errs is caught."""

import json

import pytest
import tokenizers as hf

from tfzoo.errors import ArtifactError, ArtifactMismatch
from tfzoo.export.tokenizer_vectors import FILE, check_vectors, read_vectors
from tfzoo.text.conformance import KNOWN_DIFFERENCES

pytestmark = pytest.mark.xdist_group("artifacts")


def change(directory, edit):
    content = json.loads((directory / FILE).read_text())
    edit(content["tokenizers"])
    (directory / FILE).write_text(json.dumps(content))


def test_tokenizer_json_beside_it_agrees(exported):
    recorded = read_vectors(exported.directory)
    sides = ["tokenizer.json"] if exported.tokenizer.shared else ["source/tokenizer.json", "target/tokenizer.json"]
    assert [*recorded] == sides
    for path, one in recorded.items():
        reader = hf.Tokenizer.from_file(str(exported.directory / path))
        assert reader.get_vocab_size() == one["vocabulary_size"]
        for vector in one["encode"]:
            if vector["group"] not in KNOWN_DIFFERENCES:
                assert reader.encode(vector["text"]).ids == [*vector["ids"], one["end_id"]], ascii(vector["text"])
        for vector in one["decode"]:
            if vector["group"] not in KNOWN_DIFFERENCES:
                assert reader.decode(vector["ids"]) == vector["text"], vector["ids"]
    texts = {vector["text"] for vector in recorded[sides[0]]["encode"] if vector["group"] == "texts"}
    assert texts == {*exported.texts[:5]}


@pytest.mark.parametrize("runtime", ["onnx", "saved_model"])
def test_a_wrong_id_and_a_wrong_text_are_named(exported, tmp_path, runtime):
    artifact = exported.copy(tmp_path / "model")
    backend, limit = exported.runtimes[runtime].backend, exported.manifest["max_length"]
    counts = [len(one["encode"]) + len(one["decode"]) for one in read_vectors(artifact).values()]
    checked = check_vectors(artifact, backend, limit)
    assert checked == exported.manifest["proof"][runtime]["tokenizer_vectors"]
    # The SavedModel reads sources and writes targets; the files do both on either side.
    assert checked == sum(counts) if exported.tokenizer.shared or runtime == "onnx" else 250 < checked < sum(counts)

    def wrong_id(tokenizers):
        vector = next(one for one in tokenizers[0]["encode"] if one["text"] == " a")
        vector["ids"][-1] += 1

    change(artifact, wrong_id)
    with pytest.raises(ArtifactMismatch, match="for the text '"):
        check_vectors(artifact, backend, limit)

    def wrong_text(tokenizers):
        wrong_id_again = next(one for one in tokenizers[0]["encode"] if one["text"] == " a")
        wrong_id_again["ids"][-1] -= 1
        tokenizers[-1]["decode"][-1]["text"] += "x"

    change(artifact, wrong_text)
    with pytest.raises(ArtifactMismatch, match="for the ids"):
        check_vectors(artifact, backend, limit)


def test_the_graph_cuts_where_the_model_does(exported):
    backend, limit = exported.runtimes["saved_model"].backend, exported.manifest["max_length"]
    with pytest.raises(ArtifactMismatch, match="signature `tokenize` gives"):
        check_vectors(exported.directory, backend, limit - 1)


def test_a_missing_or_damaged_file_and_a_missing_side(exported, tmp_path):
    artifact = exported.copy(tmp_path / "model")
    backend = exported.runtimes["onnx"].backend
    change(artifact, lambda tokenizers: tokenizers.pop())
    with pytest.raises(ArtifactMismatch, match="has no vectors for .*tokenizer.json; export the model again"):
        check_vectors(artifact, backend, 21)
    (artifact / FILE).write_text("{")
    with pytest.raises(ArtifactError, match="missing or damaged"):
        check_vectors(artifact, backend, 21)
    (artifact / FILE).unlink()
    with pytest.raises(ArtifactError, match="missing or damaged"):
        check_vectors(artifact, backend, 21)
