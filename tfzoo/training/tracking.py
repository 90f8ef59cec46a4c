"""A run's numbers in MLflow (https://mlflow.org), where it is installed (extra `mlflow`): by default in a local folder.

TensorBoard's files and metrics.jsonl are written without it. Nothing else here imports it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfzoo.errors import UsageError

# MLflow refuses longer values, and more of them in one call.
_LONGEST, _MOST = 500, 100


class MlflowCallback(keras.callbacks.Callback):
    """Logs what Keras measures of each epoch, of `tfzoo.training.fit` what stands in its progress line.

    It goes into one MLflow run, at the steps of the optimizer; of several processes one logs. A run that is resumed in
    another process goes on in a run of its own, unless `run_id` names the first.

    Args:
        experiment: name of MLflow's experiment; made if missing.
        location: folder, or tracking server, such as "http://localhost:5000".
        run_name: what MLflow shows; "" = a name of its choice.
        parameters: to log once, such as `dataclasses.asdict(recipe)`; a mapping within becomes "outer.inner".
        run_id: of the MLflow run to go on with; "" = a new one. Afterwards it is that of the run.

    Raises:
        UsageError: MLflow is not installed.
    """

    def __init__(
        self,
        experiment: str = "tfzoo",
        location: str | Path = "mlruns",
        run_name: str = "",
        parameters: Mapping[str, Any] | None = None,
        run_id: str = "",
    ) -> None:
        super().__init__()
        try:
            import mlflow
        except ImportError:
            raise UsageError("logging to MLflow needs the extra: pip install 'tfzoo[mlflow]'.") from None
        uri = str(location)
        if "://" not in uri:
            uri = Path(location).resolve().as_uri()
            # MLflow 3 asks for a database where it is not told that a folder is meant.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._experiment = experiment
        self._run_name = run_name
        self._parameters = dict(_flat(parameters or {}))
        self.run_id = run_id

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Begins the MLflow run, or goes on with it."""
        self._logs = self.model.distribute_strategy.extended.should_save_summary
        if not self._logs:
            return
        if self.run_id:
            self._client.update_run(self.run_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self._experiment)
        experiment_id = found.experiment_id if found else self._client.create_experiment(self._experiment)
        self.run_id = self._client.create_run(experiment_id, run_name=self._run_name or None).info.run_id
        from mlflow.entities import Param

        named = [Param(name, str(value)[:_LONGEST]) for name, value in self._parameters.items()]
        for start in range(0, len(named), _MOST):
            self._client.log_batch(self.run_id, params=named[start : start + _MOST])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Logs what Keras has measured."""
        if not self._logs:
            return
        from mlflow.entities import Metric

        step, now = int(self.model.optimizer.iterations.numpy()), int(1000 * time.time())
        metrics = [Metric(name, float(value), now, step) for name, value in (logs or {}).items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Ends the MLflow run."""
        if self._logs:
            self._client.set_terminated(self.run_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """{"a": {"b": 1}} -> [("a.b", 1)]."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found
