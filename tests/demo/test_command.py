"""`tfzoo demo` itself."""

import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from tfzoo import demo
from tfzoo.cli.main import main


def test_it_serves_until_ctrl_c_and_ends_well(artifact_dir, runtime_dir):
    command = [sys.executable, "-m", "tfzoo", "demo", str(artifact_dir), "--port=0", f"--onnxruntime_web={runtime_dir}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        address = re.fullmatch(rf"serving {artifact_dir} at (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)
        assert address, (line, process.stderr.read() if process.poll() is not None else "")
        with urllib.request.urlopen(f"{address[1]}artifact/vocab.json", timeout=10) as response:
            assert response.read() == b"content of vocab.json"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "stopped.\n", "")


def test_the_server_needs_no_tensorflow():
    code = "import sys, tfzoo.demo.server; print({'tensorflow', 'onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_setup_alone_only_fetches(monkeypatch, capsys):
    monkeypatch.setattr(demo, "install", lambda: "/cache/x", raising=False)
    assert main(["demo", "--setup"]) == 0
    assert capsys.readouterr().out == "installed: /cache/x\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "tfzoo: --artifact is missing: the folder of an artifact with ONNX graphs."),
        (["x", "--port=70000"], "tfzoo: flag --port=70000: 70000 is not an integer in the range [0, 65535]."),
        (["x", "--onnxruntime_web=nowhere"], "tfzoo: `onnxruntime_web` must hold ort.wasm.min.mjs,"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(capsys, arguments, message):
    assert main(["demo", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1
