"""Which processes a run has, and which of them this one is, read from the environment; needs no TensorFlow.

`TF_CONFIG` wins, TensorFlow's own JSON. Where it is not set, it is made from what a scheduler sets:

    Slurm, in a step of srun    SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE
    Kubernetes                  TFZOO_NUM_WORKERS, and TFZOO_WORKER_HOSTS, the workers' hosts with {index} in it;
                                JOB_COMPLETION_INDEX, which an indexed Job sets, or the number that ends HOSTNAME in a
                                StatefulSet

A worker listens on port TFZOO_PORT, 8888 unless it is set; the second task of a Slurm node on the next one, and so on.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping

from tfzoo.errors import UsageError, nearest

STRATEGIES = ("auto", "single", "mirrored", "multi_worker", "tpu")
_DEFAULT_PORT = 8888


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """The processes of a run; the first one is the chief.

    Args:
        addresses: "host:port" of each, the same list in every process.
        index: which of them this process is.
        chief: whether the first one is of the type "chief" and not of the type "worker".

    Raises:
        UsageError: there are no processes, two of one address, or `index` is none of them.
    """

    addresses: tuple[str, ...]
    index: int
    chief: bool = False

    def __post_init__(self) -> None:
        if not self.addresses:
            raise UsageError("`addresses` must name at least one worker; received none.")
        for address in self.addresses:
            if not re.fullmatch(r"[^\s:]+:\d+", address):
                raise UsageError(f"`addresses` must be HOST:PORT; received {address!r}.")
            if self.addresses.count(address) > 1:
                raise UsageError(f"`addresses` must differ; received {address!r} twice.")
        if not 0 <= self.index < len(self.addresses):
            raise UsageError(
                f"`index` must be that of one of {len(self.addresses)} workers, from 0; received index={self.index}."
            )

    @property
    def tf_config(self) -> dict:
        """What TensorFlow takes as TF_CONFIG."""
        if not self.chief:
            return {
                "cluster": {"worker": list(self.addresses)},
                "task": {"type": "worker", "index": self.index},
            }
        kind, index = ("worker", self.index - 1) if self.index else ("chief", 0)
        workers = {"worker": list(self.addresses[1:])} if len(self.addresses) > 1 else {}
        return {"cluster": {"chief": [self.addresses[0]], **workers}, "task": {"type": kind, "index": index}}


def check_strategy(name: str) -> None:
    """Raises UsageError when there is no strategy of that name, and says why where others have one."""
    if name == "parameter_server":
        raise UsageError(
            "`strategy` 'parameter_server' is not there: Keras 3 does not train under TensorFlow's "
            "ParameterServerStrategy, whose workers update the weights at times of their own, so that no run could be "
            "resumed exactly. Use 'multi_worker', whose workers update together."
        )
    if name not in STRATEGIES:
        raise UsageError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}; received strategy={name!r}.{nearest(name, STRATEGIES)}"
        )


def from_environment(environ: Mapping[str, str]) -> Cluster | None:
    """Returns the processes that the environment tells of; None where it tells of none.

    Args:
        environ: variables, usually `os.environ`.

    Raises:
        UsageError: a variable is missing or malformed, or names processes of another kind.
    """
    if environ.get("TF_CONFIG"):
        return _from_tf_config(environ["TF_CONFIG"])
    if "TFZOO_NUM_WORKERS" in environ:
        return _from_kubernetes(environ)
    return _from_slurm(environ) if "SLURM_STEP_NUM_TASKS" in environ else None


def _from_tf_config(text: str) -> Cluster | None:
    try:
        config = json.loads(text)
        roles = dict(config.get("cluster", {}))
        if not roles:
            return None
        kind, index = str(config["task"]["type"]), int(config["task"]["index"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": '
            f"0}}}}; received {text!r} ({type(error).__name__}: {error})."
        ) from None
    for role in (*roles, kind):
        if role not in ("chief", "worker"):
            raise UsageError(
                f"TF_CONFIG may name 'chief' and 'worker' alone; received {role!r}. Every process of a run computes, "
                "and the first one writes and validates."
            )
    chiefs, workers = roles.get("chief", []), roles.get("worker", [])
    return Cluster(
        addresses=(*chiefs, *workers), index=index + (len(chiefs) if kind == "worker" else 0), chief=bool(chiefs)
    )


def _from_kubernetes(environ: Mapping[str, str]) -> Cluster:
    num_workers = _number(environ, "TFZOO_NUM_WORKERS")
    hosts = environ.get("TFZOO_WORKER_HOSTS", "")
    if "{index}" not in hosts:
        raise UsageError(
            "TFZOO_WORKER_HOSTS must be the workers' hosts with {index} for their number, such as "
            f"train-{{index}}.train; received {hosts!r}."
        )
    if "JOB_COMPLETION_INDEX" in environ:
        index = _number(environ, "JOB_COMPLETION_INDEX")
    else:
        ordinal = re.search(r"-(\d+)$", environ.get("HOSTNAME", ""))
        if ordinal is None:
            raise UsageError(
                "with TFZOO_NUM_WORKERS, JOB_COMPLETION_INDEX must say which worker this is, or HOSTNAME end in "
                f"-NUMBER; received HOSTNAME={environ.get('HOSTNAME', '')!r}."
            )
        index = int(ordinal[1])
    port = _port(environ)
    addresses = tuple(f"{hosts.replace('{index}', str(i))}:{port}" for i in range(num_workers))
    return Cluster(addresses=addresses, index=index)


def _from_slurm(environ: Mapping[str, str]) -> Cluster:
    hosts = expand_hosts(_text(environ, "SLURM_STEP_NODELIST"))
    counts = list(_tasks_per_node(_text(environ, "SLURM_STEP_TASKS_PER_NODE")))
    num_tasks = _number(environ, "SLURM_STEP_NUM_TASKS")
    if len(counts) != len(hosts) or sum(counts) != num_tasks:
        raise UsageError(
            f"SLURM_STEP_TASKS_PER_NODE must give {num_tasks} tasks on {len(hosts)} nodes; received "
            f"{environ['SLURM_STEP_TASKS_PER_NODE']!r} for {environ['SLURM_STEP_NODELIST']!r}."
        )
    port = _port(environ)
    addresses = tuple(f"{host}:{port + i}" for host, count in zip(hosts, counts, strict=True) for i in range(count))
    return Cluster(addresses=addresses, index=_number(environ, "SLURM_PROCID"))


def expand_hosts(nodes: str) -> list[str]:
    """Returns the hosts that Slurm writes in short.

    >>> expand_hosts("gpu[08-10,12],login")
    ['gpu08', 'gpu09', 'gpu10', 'gpu12', 'login']

    Raises:
        UsageError: it is no list of hosts.
    """
    hosts: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]+|\[[^\]]*\])+", nodes):
        names = [""]
        for literal, ranges in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            names = [name + end for name in names for end in ([literal] if literal else _numbers(ranges, nodes))]
        hosts += names
    if not hosts:
        raise UsageError(f"SLURM_STEP_NODELIST must name hosts, such as gpu[01-04]; received {nodes!r}.")
    return hosts


def _numbers(ranges: str, nodes: str) -> Iterator[str]:
    for one in ranges.split(","):
        bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", one)
        if bounds is None:
            raise UsageError(f"SLURM_STEP_NODELIST must name hosts, such as gpu[01-04]; received {nodes!r}.")
        first, last = bounds[1], bounds[2] or bounds[1]
        yield from (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))


def _tasks_per_node(text: str) -> Iterator[int]:
    """Yields 2, 2, 2 and 1 for 2(x3),1."""
    for one in text.split(","):
        count = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", one)
        if count is None:
            raise UsageError(f"SLURM_STEP_TASKS_PER_NODE must be like 2(x3),1; received {text!r}.")
        yield from [int(count[1])] * int(count[2] or 1)


def _text(environ: Mapping[str, str], name: str) -> str:
    if name not in environ:
        raise UsageError(f"{name} is not set; start the workers by srun, or set TF_CONFIG.")
    return environ[name]


def _number(environ: Mapping[str, str], name: str) -> int:
    text = _text(environ, name)
    if not text.isdecimal():
        raise UsageError(f"{name} must be a whole number; received {text!r}.")
    return int(text)


def _port(environ: Mapping[str, str]) -> int:
    return _number(environ, "TFZOO_PORT") if "TFZOO_PORT" in environ else _DEFAULT_PORT
