"""The server hands out a fixed table of files, to this machine only."""

import http.client
import json
import socket

import pytest

from tfzoo.demo.server import PAGE, DemoServer
from tfzoo.errors import ArtifactError, UsageError
from tfzoo.runtime.encoder import ENCODER_TASKS


def ask(server, path, method="GET", host=None):
    """One request, its path sent as it is -> (status, headers, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    response = connection.getresponse()
    return response.status, response.headers, response.read()


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/", "text/html; charset=utf-8", (PAGE / "index.html").read_bytes()),
        ("/?a=b", "text/html; charset=utf-8", (PAGE / "index.html").read_bytes()),
        ("/page.css", "text/css; charset=utf-8", (PAGE / "page.css").read_bytes()),
        ("/page.mjs", "text/javascript; charset=utf-8", (PAGE / "page.mjs").read_bytes()),
        ("/word_piece_tables.mjs", "text/javascript; charset=utf-8", (PAGE / "word_piece_tables.mjs").read_bytes()),
        ("/tokenizer.mjs", "text/javascript; charset=utf-8", (PAGE / "tokenizer.mjs").read_bytes()),
        ("/onnxruntime-web/ort.wasm.min.mjs", "text/javascript; charset=utf-8", b"ort.wasm.min.mjs"),
        (
            "/onnxruntime-web/ort-wasm-simd-threaded.wasm",
            "application/wasm",
            b"ort-wasm-simd-threaded.wasm",
        ),
        ("/artifact/vocab.json", "application/json", b"content of vocab.json"),
        ("/artifact/onnx/generate.onnx", "application/octet-stream", b"content of onnx/generate.onnx"),
        ("/artifact/a%20b.txt", "application/octet-stream", b"content of a b.txt"),
    ],
)
def test_each_file_has_its_type_and_the_headers_for_threads(serve, artifact_dir, runtime_dir, path, content_type, body):
    server = serve(artifact_dir, runtime_dir)
    status, headers, received = ask(server, path)
    assert (status, received) == (200, body)
    assert headers["Content-Type"] == content_type
    assert headers["Content-Length"] == str(len(body))
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert ask(server, path, "HEAD")[::2] == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/index.html/..",
        "/artifact/",
        "/artifact/secret.txt",  # in the folder, not in the manifest
        "/artifact/../secret.txt",
        "/artifact/..%2f..%2fetc%2fpasswd",
        "/artifact/%2e%2e/%2e%2e/etc/passwd",
        "/artifact/onnx/../../secret.txt",
        "/artifact//etc/passwd",
        "//etc/passwd",
        "//[",
        "/../../../etc/passwd",
        "/artifact/vocab.json%00",
        "/onnxruntime-web/../package.json",
        "/onnxruntime-web/package.json",
        "/artifact/\\..\\secret.txt",
    ],
)
def test_nothing_else_is_served(serve, artifact_dir, runtime_dir, path):
    (artifact_dir / "secret.txt").write_text("secret")
    (artifact_dir.parent / "secret.txt").write_text("secret")
    (runtime_dir / "package.json").write_text("secret")
    status, headers, body = ask(serve(artifact_dir, runtime_dir), path)
    assert status == 404
    assert b"secret" not in body.replace(b"secret.txt", b"")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_written(serve, artifact_dir, runtime_dir, method):
    assert ask(serve(artifact_dir, runtime_dir), "/", method)[0] == 501


@pytest.mark.parametrize("host", ["example.com", "example.com:8000", "127.0.0.1.example.com", "[::1]", "[", ""])
def test_a_foreign_name_for_this_machine_is_refused(serve, artifact_dir, runtime_dir, host):
    server = serve(artifact_dir, runtime_dir)
    assert ask(server, "/", host=host or " ")[0] == 421
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0] == 200


def test_only_this_machine_is_listened_to(serve, artifact_dir, runtime_dir):
    server = serve(artifact_dir, runtime_dir)
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "missing.txt", "link.txt"])
def test_a_manifest_cannot_name_a_file_outside(artifact_dir, runtime_dir, name):
    (artifact_dir.parent / "outside.txt").write_text("secret")
    (artifact_dir / "link.txt").symlink_to("../outside.txt")
    manifest = json.loads((artifact_dir / "manifest.json").read_text())
    manifest["files"][name] = {}
    (artifact_dir / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="is missing or outside of it; export it again"):
        DemoServer(artifact_dir, runtime_dir, 0)


def test_an_artifact_without_the_graphs_is_refused(artifact_dir, runtime_dir):
    manifest = json.loads((artifact_dir / "manifest.json").read_text())
    (artifact_dir / "manifest.json").write_text(json.dumps(manifest | {"files": {"onnx/model.onnx": {}}}))
    with pytest.raises(UsageError, match=r"lacks onnx/generate.onnx, onnx/encoder_model.onnx, onnx/decoder"):
        DemoServer(artifact_dir, runtime_dir, 0)
    (artifact_dir / "manifest.json").write_text(json.dumps(manifest | {"task": "causal_lm"}))
    with pytest.raises(UsageError, match=r"runs onnx/generate.onnx, onnx/model.onnx; .* lacks onnx/model.onnx\."):
        DemoServer(artifact_dir, runtime_dir, 0)
    for task in ENCODER_TASKS:
        (artifact_dir / "manifest.json").write_text(json.dumps(manifest | {"task": task}))
        with pytest.raises(UsageError, match=r"runs onnx/model.onnx; .* lacks onnx/model.onnx\."):
            DemoServer(artifact_dir, runtime_dir, 0)


def test_a_folder_that_is_no_artifact_is_refused(tmp_path, runtime_dir):
    with pytest.raises(ArtifactError, match="is not an artifact"):
        DemoServer(tmp_path, runtime_dir, 0)


def test_a_port_in_use_is_refused_when_asked_for_and_avoided_when_not(artifact_dir, runtime_dir, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"received port={taken}. Name another one"):
            DemoServer(artifact_dir, runtime_dir, taken)
        monkeypatch.setattr("tfzoo.demo.server.DEFAULT_PORT", taken)
        with DemoServer(artifact_dir, runtime_dir) as server:
            assert server.server_port not in (0, taken)
