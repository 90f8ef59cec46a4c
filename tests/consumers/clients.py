"""Runs a client in its own process: JSON in, JSON out.

A client is a script beside this module that reads one request from standard input and writes one answer. It knows
nothing of tfzoo: an artifact's files are all that it has.
"""

import json
import os
import re
import subprocess
from collections.abc import Sequence
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
        pytest.skip(f"the clients for {script} are not installed; run tests/setup")
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
    # Not `splitlines`: a text in the answer may hold what Unicode calls the end of a line.
    return json.loads(done.stdout.rstrip("\n").rpartition("\n")[2])


def expected(exported: Any, texts: Sequence[str], **options: Any) -> list[list[dict[str, Any]]]:
    """The answers of Keras: for each text its token ids and their text, best first."""
    rows = exported.runtimes["keras"].generate(texts, **options)
    return [[{"token_ids": one.token_ids, "text": one.output} for one in row] for row in rows]


def card_code(exported: Any, package: str, text: str) -> str:
    """The code of an artifact's model card that imports a package, asked for one text."""
    card = (exported.directory / "README.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if f"from {package}" in block]
    assert '"...' in code
    return code.replace('"...', json.dumps(text, ensure_ascii=False)[:-1])
