"""Runs a client in its own process: JSON in, JSON out.

A client is a script beside this module that reads one request from standard input and writes one answer. It knows
nothing of tfzoo: an artifact's files are all that it has.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
PROGRAMS = {".py": FOLDER / ".venv/bin/python", ".mjs": "node"}
# What `setup` writes last: a half-finished installation does not count.
INSTALLED = {".py": FOLDER / ".venv/requirements.txt", ".mjs": FOLDER / "node_modules/package.json"}


def ask(script: str, request: dict[str, Any]) -> Any:
    """Returns the answer of a client; skips the test where the clients are not installed."""
    kind = Path(script).suffix
    if not INSTALLED[kind].is_file():
        pytest.skip(f"the clients for {script} are not installed; run tests/consumers/setup")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [PROGRAMS[kind], FOLDER / script],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
