"""Runs the clients of an artifact's `serving/` folder as they are, and reads the folder."""

import json
import os
import runpy
import shutil
import subprocess
import sys

import jsonschema
import pytest

from tfzoo.export.outputs import TOLERANCE

COMMANDS = {
    "curl": (["sh", "client_curl.sh"], "curl"),
    "python": ([sys.executable, "-I", "client_rest.py"], sys.executable),
    "node": (["node", "client_node.mjs"], "node"),
}


def read(exported, name):
    return (exported.directory / "serving" / name).read_text(encoding="utf-8")


def read_json(exported, name):
    return json.loads(read(exported, name))


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


def run_grpc_client(exported, address, monkeypatch, capsys, *arguments):
    """In this process: a new one takes four seconds to import TensorFlow."""
    monkeypatch.setenv("SERVER", address)
    monkeypatch.setattr(sys, "argv", ["client_grpc.py", *arguments])
    runpy.run_path(os.fspath(exported.directory / "serving/client_grpc.py"), run_name="__main__")
    return json.loads(capsys.readouterr().out)


def post(server, body):
    return server.predict_json(json.loads(json.dumps(body)))


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
