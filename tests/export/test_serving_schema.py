"""What the `serving/` folder says of the REST interface: the schema refuses and takes what a server does."""

import jsonschema
import numpy as np
import pytest

from tests.export.fake_tf_serving import BadRequest, FakeServer
from tests.export.serving_clients import post, read_json, validate
from tfzoo.errors import UsageError
from tfzoo.export import exporter, serving_kit

pytestmark = pytest.mark.xdist_group("artifacts")


@pytest.fixture(scope="module")
def separate_server(separate_vocabularies):
    fake = FakeServer(separate_vocabularies.manifest["name"], separate_vocabularies.directory / "1")
    yield fake
    fake.session.close()


BAD_BODIES = {
    "another signature": {"signature_name": "translate", "inputs": {"source": ["a"]}},
    "another input": {"inputs": {"text": ["a"]}},
    "a number for a text": {"inputs": {"source": [7]}},
    "neither form": {"source": ["a"]},
    "no row": {"instances": []},
    "ids without the other side": {"signature_name": "tokens", "inputs": {"encoder_token_ids": [[1]]}},
    "plain rows for several inputs": {"signature_name": "tokens", "instances": [[[1], [2]]]},
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_the_schema_refuses_what_the_server_refuses(separate_vocabularies, separate_server, name):
    description = read_json(separate_vocabularies, "openapi.json")
    operation = description["paths"][f"/v1/models/{separate_vocabularies.manifest['name']}:predict"]["post"]
    with pytest.raises(jsonschema.ValidationError):
        validate(BAD_BODIES[name], operation["requestBody"]["content"]["application/json"]["schema"], description)
    with pytest.raises(BadRequest):
        post(separate_server, BAD_BODIES[name])


SHORT_FORMS = {
    "plain rows": {"instances": ["f", "a"]},
    "a plain column": {"inputs": ["f", "a"]},
    "base64": {"inputs": {"source": [{"b64": "Zg=="}, "a"]}},
    "by name": {"signature_name": "serving_default", "instances": [{"source": "f"}, {"source": "a"}]},
}


@pytest.mark.parametrize("name", SHORT_FORMS)
def test_the_short_forms_are_described_and_answered(separate_vocabularies, separate_server, name):
    description = read_json(separate_vocabularies, "openapi.json")
    operation = description["paths"][f"/v1/models/{separate_vocabularies.manifest['name']}:predict"]["post"]
    validate(SHORT_FORMS[name], operation["requestBody"]["content"]["application/json"]["schema"], description)
    found = post(separate_server, SHORT_FORMS[name])
    outputs = (
        [row["outputs"] for row in found["predictions"]] if "predictions" in found else found["outputs"]["outputs"]
    )
    assert outputs == separate_vocabularies.runtimes["saved_model"](["f", "a"])


def test_the_ids_signature_documents_its_padding_and_keeps_to_it(separate_vocabularies, separate_server):
    """Padding the source with 0 changes no logit, as the description promises."""
    description = read_json(separate_vocabularies, "openapi.json")["components"]["schemas"]["TokensColumns"][
        "description"
    ]
    assert "filled up with 0 at the end" in description
    ids = {"encoder_token_ids": np.array([[5, 6, 3]], np.int32), "decoder_token_ids": np.array([[2, 7]], np.int32)}
    padded = {name: np.pad(value, [(0, 0), (0, 2)]) for name, value in ids.items()}
    found = separate_server.run("tokens", padded)["logits"][:, :2]
    np.testing.assert_allclose(found, separate_server.run("tokens", ids)["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("G2P_small.v2", "g2p-small-v2"), ("2nd", "model-2nd"), ("a" * 60, "a" * 50), ("en-de_", "en-de")],
)
def test_a_cluster_gets_a_name_that_it_takes(name, expected):
    assert serving_kit._resource_name(name) == expected


@pytest.mark.parametrize("name", ["two words", "päth", ".hidden", "a$b"])
def test_a_name_that_no_server_takes_is_refused_before_any_work(exported, tmp_path, name):
    with pytest.raises(UsageError, match="names the model on a server"):
        exporter.export(exported.model, exported.tokenizer, tmp_path / name)
    assert not list(tmp_path.iterdir())
