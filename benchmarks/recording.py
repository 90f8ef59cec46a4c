"""What stands in every file of results: the command, the machine and the versions behind the numbers."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfzoo.export.manifest import package_versions


def write(path: Path, script: str, arguments: Sequence[str] | None, results: Any) -> None:
    """Writes results as JSON.

    Args:
        path: the file; its folder is made if missing.
        script: name of the module.
        arguments: those that it was given; None = those of this process.
        results: what was measured.
    """
    given = sys.argv[1:] if arguments is None else arguments
    record = {
        "command": shlex.join(["python", "-m", script, *given]),
        "date": datetime.date.today().isoformat(),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **package_versions()},
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    gpus = tf.config.list_physical_devices("GPU")
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus],
    }
