"""Which checkpoints of a run are averaged (Vaswani et al., 2017, section 6.1): its last ones, or its best."""

from __future__ import annotations

from pathlib import Path

from tfzoo.errors import CheckpointError
from tfzoo.training import checkpoints
from tfzoo.training.checkpoint_files import Checkpoint
from tfzoo.training.measures import best_records

_OTHER_VALUE = "the same training command takes another value."


def last(run_dir: str | Path, num: int) -> list[Checkpoint]:
    """Returns the last `num` checkpoints that training recorded, in the order of their steps.

    Raises:
        CheckpointError: fewer are there, or a state.json is missing or damaged.
    """
    recorded = [int(record["step"]) for record in checkpoints.newest(run_dir).history if record["step"]][-num:]
    found = [step for step in recorded if step in checkpoints.steps(run_dir)]
    if len(found) < num:
        raise CheckpointError(
            f"average_checkpoints={num} needs the last {num} checkpoints; {Path(run_dir) / 'checkpoints'} holds "
            f"{len(found)} of them. Train the run further, or lower `average_checkpoints`: {_OTHER_VALUE}"
        )
    return [checkpoints.at(run_dir, step) for step in found]


def best(run_dir: str | Path, num: int, monitor: str = "") -> list[Checkpoint]:
    """Returns the `num` best checkpoints of all that training recorded, in the order of their steps.

    Args:
        run_dir: folder of the run.
        num: how many.
        monitor: what decides; "" = the task's usual measure.

    Raises:
        CheckpointError: one of them is not there, or a state.json is missing or damaged.
    """
    recorded = [record for record in checkpoints.newest(run_dir).history if record["step"]]
    chosen = sorted(int(record["step"]) for record in best_records(recorded, num, monitor)) if recorded else []
    found = [step for step in chosen if step in checkpoints.steps(run_dir)]
    if len(found) < num:
        raise CheckpointError(
            f"average='best' needs the {num} best checkpoints; {Path(run_dir) / 'checkpoints'} holds {len(found)} of "
            "them: the others were deleted when others were asked for, or are yet to be trained. Train with "
            f"average='best' from the beginning, or lower `average_checkpoints`: {_OTHER_VALUE}"
        )
    return [checkpoints.at(run_dir, step) for step in found]
