"""README.md taken apart, and its code run in the order of the page."""

import configparser
import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

from tfzoo import first_run, runs
from tfzoo.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARTIFACT = "exports/numbers"
# Long runs, of which the page shows the commands.
LONG_RUNS = (
    "runs/small_g2p",
    "runs/gru_small",
    "runs/en_de",
    "runs/en_de_gru",
    "runs/en_zh",
    "runs/lstm_docs",
    "runs/gpt2_docs",
    "runs/chinese",
    "runs/sentiment",
)
# What makes the page's short run shorter still.
SHORTER = ["model.num_layers=1", "training.num_steps=2", "training.checkpoint_steps=2", "training.warmup_steps=1"]


@dataclasses.dataclass
class Unit:
    """What runs at once: a shell block, or a Python block that begins with imports and those that go on with it."""

    language: str
    code: str

    @property
    def prints(self) -> list[str]:
        """What comments behind `print(...)` promise."""
        return re.findall(r"^print\(.*\)  # (.+)$", self.code, re.MULTILINE)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    (text,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^##|\Z)", README, re.MULTILINE | re.DOTALL)
    return text


def table(text: str) -> list[list[str]]:
    """The cells of the only table in a text, its header left out."""
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows[2:]]


def units() -> list[Unit]:
    found: list[Unit] = []
    for language, code in re.findall(r"^```(python|sh)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        goes_on = language == "python" and not code.startswith(("import ", "from "))
        if goes_on and found[-1].language == "python":
            found[-1].code += code
        else:
            found.append(Unit(language, code))
    return found


def commands(code: str) -> Iterator[list[str]]:
    """The commands of a shell block, as words; a pipe and && are words too."""
    pending = ""
    for line in code.splitlines(keepends=True):
        pending += line
        if pending.endswith("\\\n"):
            continue
        try:
            words = shlex.shlex(pending.replace("\\\n", " "), posix=True, punctuation_chars="|&")
            words.whitespace_split = True
            found = list(words)
        except ValueError:  # within quotes
            continue
        yield found
        pending = ""
    assert not pending


def split(words: list[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


UNITS = units()
SHELL = [words for unit in UNITS if unit.language == "sh" for words in commands(unit.code)]


class Page:
    """Runs the page's units in a folder and keeps what each printed, or how it failed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[Any] = []
        self.outcomes = [self._run(unit) for unit in UNITS]

    def _run(self, unit: Unit) -> str | BaseException:
        try:
            if unit.language == "sh":
                return "".join(self._shell(words) for words in commands(unit.code))
            return without_tensorflow(unit.code) if "import onnxruntime" in unit.code else self._python(unit.code)
        except (Exception, SystemExit) as error:
            return error

    def _python(self, code: str) -> str:
        keras.utils.set_random_seed(0)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        return out.getvalue()

    def _shell(self, words: list[str]) -> str:
        output = ""
        for part in split(words, "&&"):
            given = ""
            for program, *arguments in split(part, "|"):
                given = getattr(self, f"_{program}")(arguments, given)
            output += given
        return output

    def _echo(self, arguments: list[str], given: str) -> str:
        return " ".join(arguments) + "\n"

    def _pip(self, arguments: list[str], given: str) -> str:
        install, editable, place = arguments
        assert (install, editable) == ("install", "-e")
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        assert re.fullmatch(r"\.\[(\w+)\]", place)[1] in setup["options.extras_require"]
        return ""

    def _pytest(self, arguments: list[str], given: str) -> str:
        assert arguments == []
        return ""

    def _docker(self, arguments: list[str], given: str) -> str:
        return ""  # see test_the_server_finds_the_model

    def _curl(self, arguments: list[str], given: str) -> str:
        return ""  # see the tests of requests

    def _tfzoo(self, arguments: list[str], given: str) -> str:
        is_long = any(argument.endswith(LONG_RUNS) for argument in arguments)
        if arguments[0] == "train" and not is_long:
            arguments = [*arguments, *(f"--set={change}" for change in SHORTER)]
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
            patch.setattr(first_run, "quickstart", self._quickstart)
            patch.setattr(runs, "export_run", self._export_run)
            if is_long:
                patch.setattr(runs, "train", self._record("train"))
                patch.setattr(runs, "evaluate", self._record("evaluate"))
                patch.setattr(runs, "predict", self._record("predict"))
            status = main(arguments)
        assert status == 0, errors.getvalue()
        return out.getvalue()

    def _quickstart(self, run_dir: str) -> str:
        self.calls.append(("quickstart", run_dir))
        return "done"

    def _export_run(self, run_dir: str, output_dir: str, **kwargs: Any) -> dict[str, Any]:
        """The run opens; the artifact is that of the script, whose export and proof were not stubbed."""
        self.calls.append(("export_run", type(runs.Run(run_dir)).__name__))
        shutil.copytree(ARTIFACT, output_dir)
        return json.loads((Path(output_dir) / "manifest.json").read_text(encoding="utf-8"))

    def _record(self, name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> dict[str, float]:
            self.calls.append((name, *args, kwargs))
            return {}

        return record


def without_tensorflow(code: str) -> str:
    """Runs code in a process where importing TensorFlow or Keras fails."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tensorflow_text']))\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree(block: str) -> list[str]:
    """The paths of an indented tree; a folder ends in "/"."""
    paths, parents = [], []
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        parents = [*parents[: indent // 2], name]
        paths.append("".join(parents))
    return paths
