"""Folders to serve, a server that runs, and a browser that looks at it."""

import contextlib
import json
import shutil
import threading

import pytest

from tests.demo.webdriver import Browser
from tfzoo.demo import onnxruntime_web
from tfzoo.demo.server import DemoServer
from tfzoo.errors import UsageError
from tfzoo.runtime.artifact import FORMAT_VERSION

GRAPHS = ("onnx/generate.onnx", "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx")


@pytest.fixture
def artifact_dir(tmp_path):
    """As much of an artifact as the server looks at."""
    directory = tmp_path / "model"
    (directory / "onnx").mkdir(parents=True)
    names = (*GRAPHS, "vocab.json", "a b.txt")
    for name in names:
        (directory / name).write_text(f"content of {name}")
    manifest = {
        "task": "seq2seq",
        "formats": ["onnx"],
        "max_length": 7,
        "head": {},
        "decoding": {},
        "files": dict.fromkeys(names, {}),
    }
    (directory / "manifest.json").write_text(json.dumps({"format_version": FORMAT_VERSION, **manifest}))
    return directory


@pytest.fixture
def runtime_dir(tmp_path):
    """As much of onnxruntime-web as the server looks at."""
    directory = tmp_path / "package"
    (directory / "dist").mkdir(parents=True)
    for name in onnxruntime_web.FILES:
        (directory / "dist" / name).write_text(name)
    return directory


@pytest.fixture
def serve():
    """Serves an artifact until the test ends: arguments of `DemoServer` -> the server."""
    with contextlib.ExitStack() as stack:

        def serve(*arguments, port=0):
            server = stack.enter_context(DemoServer(*arguments, port=port))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server

        yield serve


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    chromedriver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if chromedriver is None or chromium is None:
        pytest.skip("chromium or chromedriver is missing; run tests/setup")
    try:
        onnxruntime_web.find()
    except UsageError:
        pytest.skip("onnxruntime-web is missing; run tests/setup")
    with contextlib.closing(Browser(chromedriver, chromium)) as browser:
        yield browser
