"""The `serving/` folder: parsed by what will read it, and its clients run as they are, against a stand-in server."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import jsonschema
import numpy as np
import onnxruntime
import openapi_spec_validator
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tests.export import serving_protos
from tests.export.fake_tf_serving import BadRequest, FakeServer, grpc_address, rest
from tfzoo.errors import UsageError
from tfzoo.export import exporter, serving_kit, warm_up
from tfzoo.export.outputs import TOLERANCE

pytestmark = pytest.mark.xdist_group("artifacts")

COMMANDS = {
    "curl": (["sh", "client_curl.sh"], "curl"),
    "python": ([sys.executable, "-I", "client_rest.py"], sys.executable),
    "node": (["node", "client_node.mjs"], "node"),
}


@pytest.fixture(scope="module")
def server(exported):
    fake = FakeServer(exported.manifest["name"], exported.directory / "1")
    yield fake
    fake.session.close()


@pytest.fixture(scope="module")
def url(server):
    with rest(server) as address:
        yield address


@pytest.fixture(scope="module")
def separate_server(separate_vocabularies):
    fake = FakeServer(separate_vocabularies.manifest["name"], separate_vocabularies.directory / "1")
    yield fake
    fake.session.close()


def read(exported, name):
    return (exported.directory / "serving" / name).read_text(encoding="utf-8")


def read_json(exported, name):
    return json.loads(read(exported, name))


def assert_answer(found, expected):
    assert found.keys() == expected.keys() == {"outputs"}
    assert found["outputs"].keys() == expected["outputs"].keys()
    assert found["outputs"]["outputs"] == expected["outputs"]["outputs"]
    np.testing.assert_allclose(found["outputs"]["scores"], expected["outputs"]["scores"], rtol=0, atol=TOLERANCE)


def call(kind, exported, server, *arguments):
    command, needed = COMMANDS[kind]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is missing; run tests/setup")
    return subprocess.run(
        [*command, *arguments],
        cwd=exported.directory / "serving",
        env=os.environ | {"SERVER": server},
        capture_output=True,
        text=True,
        check=False,
    )


# ---- golden request ----


def test_the_response_is_what_keras_answers(exported):
    request, response = read_json(exported, "request.json"), read_json(exported, "response.json")
    best = [predictions[0] for predictions in exported.runtimes["keras"].generate(request["inputs"]["source"])]
    assert request["inputs"]["source"] == exported.manifest["golden"]["texts"]
    assert response["outputs"]["outputs"] == [prediction.output for prediction in best]
    np.testing.assert_allclose(
        response["outputs"]["scores"], [prediction.score for prediction in best], rtol=0, atol=TOLERANCE
    )


# ---- clients ----


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_client_prints_the_golden_answer(exported, url, kind):
    found = call(kind, exported, url)
    assert found.returncode == 0, found.stderr
    assert_answer(json.loads(found.stdout), read_json(exported, "response.json"))


@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_client_sends_the_texts_of_its_command_line(exported, url, kind):
    texts = ["two\twords", "Ünknown ✓ \"quoted\" 'text'"]
    found = call(kind, exported, url, *texts)
    assert found.returncode == 0, found.stderr
    expected = exported.runtimes["saved_model"](texts)
    assert json.loads(found.stdout)["outputs"]["outputs"] == expected


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_client_fails_in_one_line_where_nobody_listens(exported, kind):
    found = call(kind, exported, "http://127.0.0.1:9")
    assert found.returncode != 0
    assert found.stdout == ""
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr


def run_grpc_client(exported, address, monkeypatch, capsys, *arguments):
    """In this process: a new one takes four seconds to import TensorFlow."""
    monkeypatch.setenv("SERVER", address)
    monkeypatch.setattr(sys, "argv", ["client_grpc.py", *arguments])
    runpy.run_path(os.fspath(exported.directory / "serving/client_grpc.py"), run_name="__main__")
    return json.loads(capsys.readouterr().out)


def test_the_grpc_client_prints_the_golden_answer(exported, server, monkeypatch, capsys):
    with grpc_address(server) as address:
        found = run_grpc_client(exported, address, monkeypatch, capsys)
        assert_answer(found, read_json(exported, "response.json"))
        text = "two\twords"
        found = run_grpc_client(exported, address, monkeypatch, capsys, text)
        assert found["outputs"]["outputs"] == exported.runtimes["saved_model"]([text])
    with pytest.raises(SystemExit, match="UNAVAILABLE"):
        run_grpc_client(exported, address, monkeypatch, capsys)


# ---- the REST interface ----


def post(server, body):
    return server.predict_json(json.loads(json.dumps(body)))


def test_every_example_of_the_openapi_description_is_true(separate_vocabularies, separate_server):
    description = read_json(separate_vocabularies, "openapi.json")
    openapi_spec_validator.validate(description)
    operation = description["paths"][f"/v1/models/{separate_vocabularies.manifest['name']}:predict"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]
    answered = operation["responses"]["200"]["content"]["application/json"]
    examples = {name: example["value"] for name, example in asked["examples"].items()}
    assert set(examples) == {
        f"{signature} by {form}"
        for signature in separate_vocabularies.manifest["saved_model"]["signatures"]
        for form in ("column", "row")
    }
    for name, body in examples.items():
        found, expected = post(separate_server, body), answered["examples"][name]["value"]
        validate(found, answered["schema"], description)
        validate(body, asked["schema"], description)
        assert_close(found, expected)


def validate(value, schema, description):
    jsonschema.Draft202012Validator(schema | {"components": description["components"]}).validate(value)


def assert_close(found, expected):
    """The same structure and text; numbers within the tolerance, in proportion above 1."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    else:
        assert found == (
            expected if isinstance(expected, (str, int)) else pytest.approx(expected, TOLERANCE, TOLERANCE)
        )


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


# ---- configuration ----


def test_the_model_server_reads_its_configuration(separate_vocabularies):
    (config,) = text_format.Parse(
        read(separate_vocabularies, "models.config"), ModelServerConfig()
    ).model_config_list.config
    name = separate_vocabularies.manifest["name"]
    assert (config.name, config.base_path, config.model_platform) == (name, f"/models/{name}", "tensorflow")
    batching = text_format.Parse(read(separate_vocabularies, "batching.config"), serving_protos.BatchingParameters())
    assert batching.max_batch_size.value == 64
    assert batching.batch_timeout_micros.value == 5000
    assert batching.max_enqueued_batches.value == 20
    assert not batching.pad_variable_length_inputs
    monitoring = text_format.Parse(read(separate_vocabularies, "monitoring.config"), serving_protos.MonitoringConfig())
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def flags(words):
    return {word.split("=")[0]: word.split("=")[1] for word in words if word.startswith("--") and "=" in word}


def test_each_way_to_start_the_server_names_files_that_are_there(separate_vocabularies):
    name = separate_vocabularies.manifest["name"]
    compose = yaml.safe_load(read(separate_vocabularies, "docker-compose.yml"))["services"]["tf-serving"]
    assert compose["volumes"] == [f"..:/models/{name}:ro"]
    assert compose["ports"] == ["8500:8500", "8501:8501"]
    script = shlex.split(read(separate_vocabularies, "docker_run.sh").replace("\\\n", " "), comments=True)
    assert f"$artifact:/models/{name}:ro" in script
    dockerfile = read(separate_vocabularies, "Dockerfile").replace("\\\n", " ")
    built = json.loads(re.search(r"^CMD (.*)$", dockerfile, re.MULTILINE)[1])
    images = {
        compose["image"],
        next(word for word in script if word.startswith("tensorflow/")),
        re.search(r"^FROM (.*)$", dockerfile, re.MULTILINE)[1],
    }
    assert images == {f"tensorflow/serving:{serving_kit.SERVER_VERSION}"}
    started = [flags(compose["command"]), flags(script), flags(built)]
    assert started[0] == started[1] == started[2]
    for flag in ("--model_config_file", "--monitoring_config_file", "--batching_parameters_file"):
        inside = started[0].pop(flag)
        assert (separate_vocabularies.directory / inside.removeprefix(f"/models/{name}/")).is_file()
    assert started[0] == {"--enable_batching": "true"}
    for source in re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE):
        assert (separate_vocabularies.directory / source).is_dir()
    subprocess.run(["sh", "-n", separate_vocabularies.directory / "serving/docker_run.sh"], check=True)
    assert os.access(separate_vocabularies.directory / "serving/docker_run.sh", os.X_OK)


def test_the_cluster_manifests_fit_together(separate_vocabularies):
    deployment, service = yaml.safe_load_all(read(separate_vocabularies, "kubernetes.yaml"))
    kserve = yaml.safe_load(read(separate_vocabularies, "kserve.yaml"))
    assert [deployment["kind"], service["kind"], kserve["kind"]] == ["Deployment", "Service", "InferenceService"]
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    assert container["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{separate_vocabularies.manifest['name']}"
    tag = re.search(r"-t (\S+)", read(separate_vocabularies, "Dockerfile"))[1]
    assert container["image"] == tag
    for resource in (deployment, service, kserve):
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?", resource["metadata"]["name"])
    model = kserve["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["runtimeVersion"] == serving_kit.SERVER_VERSION


def test_triton_reads_the_graph_that_the_configuration_describes(separate_vocabularies):
    config = text_format.Parse(read(separate_vocabularies, "triton/config.pbtxt"), serving_protos.ModelConfig())
    assert config.name == separate_vocabularies.manifest["name"]
    assert config.platform == "onnxruntime_onnx"
    session = onnxruntime.InferenceSession(separate_vocabularies.directory / "onnx/generate.onnx")
    types = {"tensor(int32)": "TYPE_INT32", "tensor(float)": "TYPE_FP32"}
    for declared, values in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        found = {}
        for tensor in declared:
            dims = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
            assert list(tensor.dims), "Triton wants a dimension"
            found[tensor.name] = (serving_protos.DataType[tensor.data_type].name, dims)
        # Triton adds the batch in front.
        assert found == {value.name: (types[value.type], [-1] * (len(value.shape) - 1)) for value in values}
    assert config.max_batch_size > 1


def test_every_file_is_known(exported):
    """No placeholder is left, and nothing is there that no test above reads."""
    folder = exported.directory / "serving"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        *("Dockerfile", "batching.config", "client_curl.sh", "client_grpc.py", "client_node.mjs", "client_rest.py"),
        *("docker-compose.yml", "docker_run.sh", "kserve.yaml", "kubernetes.yaml", "models.config"),
        *("monitoring.config", "openapi.json", "request.json", "response.json", "triton/config.pbtxt"),
    }
    for name in found:
        text = read(exported, name)
        assert not re.search(r"\{\{\w+\}\}", text), name
        assert max(map(len, text.splitlines())) <= 140 or name.endswith(".json"), name
    assert {f"serving/{name}" for name in found} < exported.manifest["files"].keys()
    assert f"1/{warm_up.PATH}" in exported.manifest["files"]


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
