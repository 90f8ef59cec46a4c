"""Which process this is, read from what schedulers set."""

import json

import pytest

from tfzoo.errors import UsageError
from tfzoo.training.cluster import STRATEGIES, Cluster, check_strategy, expand_hosts, from_environment

SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[08-09],login",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2),2",
}
JOB = {"TFZOO_NUM_WORKERS": "3", "TFZOO_WORKER_HOSTS": "train-{index}.train", "JOB_COMPLETION_INDEX": "2"}


def test_nothing_is_told():
    assert from_environment({"HOME": "/root", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}) is None


def test_slurm():
    cluster = from_environment(SLURM)
    assert cluster == Cluster(addresses=("gpu08:8888", "gpu09:8888", "login:8888", "login:8889"), index=3)
    assert from_environment(SLURM | {"TFZOO_PORT": "5000"}).addresses[3] == "login:5001"


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ("a", ["a"]),
        ("a,b-1", ["a", "b-1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[099-101]x,m", ["n099x", "n100x", "n101x", "m"]),
        ("r[1,3]n[0-1]", ["r1n0", "r1n1", "r3n0", "r3n1"]),
    ],
)
def test_slurms_short_lists(nodes, hosts):
    assert expand_hosts(nodes) == hosts


def test_an_indexed_job():
    cluster = from_environment(JOB)
    assert cluster == Cluster(addresses=("train-0.train:8888", "train-1.train:8888", "train-2.train:8888"), index=2)


def test_a_stateful_set():
    environ = {name: value for name, value in JOB.items() if name != "JOB_COMPLETION_INDEX"}
    assert from_environment(environ | {"HOSTNAME": "train-1"}).index == 1


def test_tf_config_wins():
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    cluster = from_environment(SLURM | JOB | {"TF_CONFIG": json.dumps(config)})
    assert cluster == Cluster(addresses=("a:1", "b:1"), index=1)
    assert cluster.tf_config == config


@pytest.mark.parametrize("config", [{}, {"cluster": {}}, {"task": {"type": "worker", "index": 0}}])
def test_a_tf_config_without_others(config):
    assert from_environment({"TF_CONFIG": json.dumps(config)}) is None


@pytest.mark.parametrize(("kind", "index", "place"), [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)])
def test_a_chief_is_the_first(kind, index, place):
    config = {"cluster": {"chief": ["c:1"], "worker": ["a:1", "b:1"]}, "task": {"type": kind, "index": index}}
    cluster = from_environment({"TF_CONFIG": json.dumps(config)})
    assert (cluster.addresses, cluster.index) == (("c:1", "a:1", "b:1"), place)
    assert cluster.tf_config == config


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TF_CONFIG": "{"}, 'TF_CONFIG must be like {"cluster": {"worker": ["host:port", ...]}, "task": '),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "(KeyError: 'task')"),
        (
            {"TF_CONFIG": '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}'},
            "TF_CONFIG may name 'chief' and 'worker' alone; received 'ps'.",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}'},
            "TF_CONFIG may name 'chief' and 'worker' alone; received 'evaluator'.",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}'},
            "`index` must be that of one of 1 workers, from 0; received index=1.",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}'},
            "`addresses` must be HOST:PORT; received 'a'.",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}'},
            "`addresses` must differ; received 'a:1' twice.",
        ),
        (
            SLURM | {"SLURM_STEP_NUM_TASKS": "5"},
            "SLURM_STEP_TASKS_PER_NODE must give 5 tasks on 3 nodes; received '1(x",
        ),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "two"}, "must be like 2(x3),1; received 'two'."),
        (SLURM | {"SLURM_STEP_NODELIST": "a[x]"}, "must name hosts, such as gpu[01-04]; received 'a[x]'."),
        (SLURM | {"TFZOO_PORT": "http"}, "TFZOO_PORT must be a whole number; received 'http'."),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_STEP_NODELIST is not set; start the workers by srun, or set TF_CONFIG."),
        (JOB | {"TFZOO_WORKER_HOSTS": "train"}, "the workers' hosts with {index} for their number"),
        (JOB | {"JOB_COMPLETION_INDEX": "3"}, "`index` must be that of one of 3 workers, from 0; received index=3."),
        (JOB | {"TFZOO_NUM_WORKERS": "0"}, "`addresses` must name at least one worker; received none."),
        (
            {name: value for name, value in JOB.items() if name != "JOB_COMPLETION_INDEX"} | {"HOSTNAME": "train"},
            "must say which worker this is, or HOSTNAME end in -NUMBER; received HOSTNAME='train'.",
        ),
    ],
)
def test_what_is_wrong_is_named(environ, message):
    with pytest.raises(UsageError) as caught:
        from_environment(environ)
    assert message in str(caught.value)


def test_names():
    for name in STRATEGIES:
        check_strategy(name)
    with pytest.raises(UsageError, match="Did you mean 'mirrored'?"):
        check_strategy("mirored")
    with pytest.raises(UsageError, match="Keras 3 does not train under .* Use 'multi_worker'"):
        check_strategy("parameter_server")
