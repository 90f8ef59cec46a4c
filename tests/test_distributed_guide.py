"""docs/distributed.md: what its examples set is read as it says."""

import json
import re
from pathlib import Path

import yaml

from tfzoo.training.cluster import STRATEGIES, from_environment

GUIDE = (Path(__file__).parents[1] / "docs" / "distributed.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def test_kubernetes():
    (manifest,), expected = blocks("yaml"), json.loads(blocks("json")[0])
    service, job = yaml.safe_load_all(manifest)
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    environ = {one["name"]: one["value"] for one in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(environ["TFZOO_NUM_WORKERS"])
    # A pod of an indexed Job is called JOB-INDEX, below the name of the service.
    assert environ["TFZOO_WORKER_HOSTS"] == f"{job['metadata']['name']}-{{index}}.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert from_environment(environ | {"JOB_COMPLETION_INDEX": "1"}).tf_config == expected
    assert from_environment(environ | {"HOSTNAME": "en-de-1"}).tf_config == expected


def test_slurm():
    (script,), expected = blocks("sh"), json.loads(blocks("json")[1])
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.MULTILINE))
    num_nodes, on_each = int(options["nodes"]), int(options["ntasks-per-node"])
    # As srun sets them.
    environ = {
        "SLURM_STEP_NODELIST": "gpu[07-08]",
        "SLURM_STEP_NUM_TASKS": str(num_nodes * on_each),
        "SLURM_STEP_TASKS_PER_NODE": f"{on_each}(x{num_nodes})",
        "SLURM_PROCID": "1",
    }
    assert from_environment(environ).tf_config == expected


def test_every_strategy_has_its_line():
    assert tuple(re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE)) == STRATEGIES


def test_the_files_that_it_names_are_there():
    for path in re.findall(r"`(tests/[\w/]+\.py)`", GUIDE):
        assert (Path(__file__).parents[1] / path).exists(), path
