"""What `import tfzoo` and the command line's help promise: no TensorFlow, every public name."""

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "onnxruntime", "onnx", "tf2onnx", "tensorflow_datasets", "numpy")
REPORT = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "statement",
    ["import tfzoo", "import tfzoo.errors", "import tfzoo.zoo, tfzoo.recipes", "from tfzoo.cli import main"],
)
def test_importing_loads_nothing_heavy(statement):
    assert _run(f"{statement}; {REPORT}").strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["list"], ["--version"]])
def test_the_command_line_loads_nothing_heavy_before_it_must(arguments):
    code = (
        "import contextlib, io, sys\n"
        "from tfzoo.cli import main\n"
        "out = io.StringIO()\n"
        f"with contextlib.redirect_stdout(out): status = main.main({arguments!r})\n"
        "assert status == 0 and out.getvalue(), (status, out.getvalue())\n"
        f"{REPORT}"
    )
    assert _run(code).strip() == "[]"


def test_the_listing_above_would_notice_tensorflow():
    assert _run(f"import numpy; {REPORT}").strip() == "['numpy']"
