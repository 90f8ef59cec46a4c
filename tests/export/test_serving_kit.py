"""The `serving/` folder of every family: parsed by what will read it, and its clients run against a stand-in server."""

import json
import os
import re
import shlex
import subprocess

import onnxruntime
import openapi_spec_validator
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tests.artifact_groups import grouped
from tests.export import serving_protos
from tests.export.fake_tf_serving import FakeServer, grpc_address, rest
from tests.export.serving_clients import COMMANDS, assert_close, call, post, read, read_json, run_grpc_client, validate
from tfzoo.export import serving_kit, warm_up
from tfzoo.runtime.artifact import head_of
from tfzoo.runtime.head import text_columns

# By the number of texts that make an example: as a person types them, and the texts that they are. A tab more belongs
# to the last text.
TYPED = {
    1: (("two\twords", "Ünknown ✓ \"quoted\" 'text'"), ("two\twords", "Ünknown ✓ \"quoted\" 'text'")),
    2: (("who?\tthe old\tdog", "'a'\tÜnknown ✓ \"b\""), (("who?", "the old\tdog"), ("'a'", 'Ünknown ✓ "b"'))),
}


@pytest.fixture(scope="module")
def server(any_exported):
    fake = FakeServer(any_exported.manifest["name"], any_exported.directory / "1")
    yield fake
    fake.session.close()


@pytest.fixture(scope="module")
def url(server):
    with rest(server) as address:
        yield address


def num_inputs(exported):
    return len(exported.manifest["saved_model"]["signatures"]["serving_default"]["inputs"])


def assert_answers(found, exported, texts):
    """What a client printed is what Keras answers; of a search the scores are not in question."""
    expected = exported.predictor.served(texts)
    found = found["outputs"] if isinstance(found["outputs"], dict) else {next(iter(expected)): found["outputs"]}
    assert_close({name: found[name] for name in expected}, expected)


# ---- golden request ----


def test_the_response_is_what_keras_answers(any_exported):
    request, response = read_json(any_exported, "request.json"), read_json(any_exported, "response.json")
    texts = any_exported.manifest["golden"]["texts"]
    columns = text_columns(texts, head_of(any_exported.manifest))
    assert request["inputs"] == {name: [text.decode() for text in column] for name, column in columns.items()}
    assert_answers(response, any_exported, texts)
    if "scores" in response["outputs"] and "searches" in any_exported.manifest["golden"]:
        best = [predictions[0] for predictions in any_exported.predictor.generate(texts)]
        assert_close(response["outputs"]["scores"], [prediction.score for prediction in best])


# ---- clients ----


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_client_prints_the_golden_answer(any_exported, url, kind):
    found = call(kind, any_exported, url)
    assert found.returncode == 0, found.stderr
    assert_close(json.loads(found.stdout), read_json(any_exported, "response.json"))


@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_client_sends_the_texts_of_its_command_line(any_exported, url, kind):
    typed, texts = TYPED[num_inputs(any_exported)]
    found = call(kind, any_exported, url, *typed)
    assert found.returncode == 0, found.stderr
    assert_answers(json.loads(found.stdout), any_exported, texts)


def test_the_grpc_client_prints_the_golden_answer(any_exported, server, monkeypatch, capsys):
    typed, texts = TYPED[num_inputs(any_exported)]
    with grpc_address(server) as address:
        found = run_grpc_client(any_exported, address, monkeypatch, capsys)
        expected = read_json(any_exported, "response.json")
        if not isinstance(expected["outputs"], dict):  # REST leaves the name of a single output out, gRPC does not
            expected = {"outputs": dict.fromkeys(found["outputs"], expected["outputs"])}
        assert_close(found, expected)
        assert_answers(run_grpc_client(any_exported, address, monkeypatch, capsys, *typed), any_exported, texts)
    with pytest.raises(SystemExit, match="UNAVAILABLE"):
        run_grpc_client(any_exported, address, monkeypatch, capsys)


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.xdist_group("artifacts")
def test_a_client_fails_in_one_line_where_nobody_listens(separate_vocabularies, kind):
    found = call(kind, separate_vocabularies, "http://127.0.0.1:9")
    assert found.returncode != 0
    assert found.stdout == ""
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr


# ---- the REST interface ----


def test_every_example_of_the_openapi_description_is_true(any_exported, server):
    description = read_json(any_exported, "openapi.json")
    base = f"/v1/models/{any_exported.manifest['name']}"
    signatures = [*any_exported.manifest["saved_model"]["signatures"]]
    classified = "classify" in signatures  # by a path of its own
    paths = [f"{base}:predict", *[f"{base}:classify"] * classified]
    assert [path for path in description["paths"] if ":" in path] == paths
    for path in paths:
        operation = description["paths"][path]["post"]
        asked = operation["requestBody"]["content"]["application/json"]
        answered = operation["responses"]["200"]["content"]["application/json"]
        if path.endswith("predict"):
            examples = {name: example["value"] for name, example in asked["examples"].items()}
            predicted = [signature for signature in signatures if signature != "classify"]
            assert set(examples) == {f"{one} by {form}" for one in predicted for form in ("column", "row")}
            cases = [(body, answered["examples"][name]["value"]) for name, body in examples.items()]
        else:
            cases = [(asked["example"], answered["example"])]
        for body, expected in cases:
            found = post(server, body) if path.endswith("predict") else server.classify_json(body)
            validate(body, asked["schema"], description)
            validate(found, answered["schema"], description)
            assert_close(found, expected)


@pytest.mark.parametrize(
    "name", [grouped("separate_vocabularies"), grouped("classifier")]
)  # the latter has a path more
def test_the_description_is_openapi(exported_by_name, name):
    openapi_spec_validator.validate(read_json(exported_by_name(name), "openapi.json"))


# ---- configuration ----


def test_the_model_server_reads_its_configuration(any_exported):
    (config,) = text_format.Parse(read(any_exported, "models.config"), ModelServerConfig()).model_config_list.config
    name = any_exported.manifest["name"]
    assert (config.name, config.base_path, config.model_platform) == (name, f"/models/{name}", "tensorflow")
    batching = text_format.Parse(read(any_exported, "batching.config"), serving_protos.BatchingParameters())
    assert batching.max_batch_size.value == 64
    assert batching.batch_timeout_micros.value == 5000
    assert batching.max_enqueued_batches.value == 20
    assert not batching.pad_variable_length_inputs
    monitoring = text_format.Parse(read(any_exported, "monitoring.config"), serving_protos.MonitoringConfig())
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def flags(words):
    return {word.split("=")[0]: word.split("=")[1] for word in words if word.startswith("--") and "=" in word}


def test_each_way_to_start_the_server_names_files_that_are_there(any_exported):
    name = any_exported.manifest["name"]
    compose = yaml.safe_load(read(any_exported, "docker-compose.yml"))["services"]["tf-serving"]
    assert compose["volumes"] == [f"..:/models/{name}:ro"]
    assert compose["ports"] == ["8500:8500", "8501:8501"]
    script = shlex.split(read(any_exported, "docker_run.sh").replace("\\\n", " "), comments=True)
    assert f"$artifact:/models/{name}:ro" in script
    dockerfile = read(any_exported, "Dockerfile").replace("\\\n", " ")
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
        assert (any_exported.directory / inside.removeprefix(f"/models/{name}/")).is_file()
    assert started[0] == {"--enable_batching": "true"}
    for source in re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE):
        assert (any_exported.directory / source).is_dir()
    subprocess.run(["sh", "-n", any_exported.directory / "serving/docker_run.sh"], check=True)
    assert os.access(any_exported.directory / "serving/docker_run.sh", os.X_OK)


def test_the_cluster_manifests_fit_together(any_exported):
    deployment, service = yaml.safe_load_all(read(any_exported, "kubernetes.yaml"))
    kserve = yaml.safe_load(read(any_exported, "kserve.yaml"))
    assert [deployment["kind"], service["kind"], kserve["kind"]] == ["Deployment", "Service", "InferenceService"]
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    assert container["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{any_exported.manifest['name']}"
    tag = re.search(r"-t (\S+)", read(any_exported, "Dockerfile"))[1]
    assert container["image"] == tag
    for resource in (deployment, service, kserve):
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?", resource["metadata"]["name"])
    model = kserve["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["runtimeVersion"] == serving_kit.SERVER_VERSION


def test_triton_reads_the_graph_that_the_configuration_describes(any_exported):
    config = text_format.Parse(read(any_exported, "triton/config.pbtxt"), serving_protos.ModelConfig())
    assert config.name == any_exported.manifest["name"]
    assert config.platform == "onnxruntime_onnx"
    (graph,) = set(re.findall(r"onnx/\w+\.onnx", read(any_exported, "triton/config.pbtxt")))
    assert graph == ("onnx/generate.onnx" if "searches" in any_exported.manifest["golden"] else "onnx/model.onnx")
    session = onnxruntime.InferenceSession(any_exported.directory / graph)
    types = {"tensor(int32)": "TYPE_INT32", "tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    for declared, values in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        found = {}
        for tensor in declared:
            dims = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
            assert list(tensor.dims), "Triton wants a dimension"
            found[tensor.name] = (serving_protos.DataType[tensor.data_type].name, dims)
        for value in values:  # Triton adds the batch in front
            dims = [size if isinstance(size, int) else -1 for size in value.shape[1:]]
            assert found.pop(value.name) == (types[value.type], dims)
        assert not found
    assert config.max_batch_size > 1


def test_every_file_is_known(any_exported):
    """No placeholder is left, and nothing is there that no test above reads."""
    folder = any_exported.directory / "serving"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        *("Dockerfile", "batching.config", "client_curl.sh", "client_grpc.py", "client_node.mjs", "client_rest.py"),
        *("docker-compose.yml", "docker_run.sh", "kserve.yaml", "kubernetes.yaml", "models.config"),
        *("monitoring.config", "openapi.json", "request.json", "response.json", "triton/config.pbtxt"),
    }
    for name in found:
        text = read(any_exported, name)
        assert not re.search(r"\{\{\w+\}\}", text), name
        assert max(map(len, text.splitlines())) <= 140 or name.endswith(".json"), name
    assert {f"serving/{name}" for name in found} < any_exported.manifest["files"].keys()
    assert f"1/{warm_up.PATH}" in any_exported.manifest["files"]
