"""What MLflow holds after a run is what the run recorded."""

import sys

import mlflow
import pytest

from tests.training import tiny
from tfzoo.errors import UsageError
from tfzoo.training import fit
from tfzoo.training.tracking import MlflowCallback


def test_a_run_goes_to_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    callback = MlflowCallback("words", tmp_path / "mlruns", "first", {"model": {"dim": 6}, "text": "x" * 900})
    history = fit(
        tiny.new_model(), tiny.train_dataset, tiny.config(), tmp_path / "run", callbacks=[callback], verbose=0
    )
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    run = client.get_run(callback.run_id)
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params == {"model.dim": "6", "text": "x" * 500}
    assert client.get_experiment(run.info.experiment_id).name == "words"
    for name in ("loss", "token_accuracy", "learning_rate", "tokens_per_second", "gradient_norm"):
        logged = [(metric.step, metric.value) for metric in client.get_metric_history(callback.run_id, name)]
        assert logged == [(record["step"], pytest.approx(record[name])) for record in history]


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"logging to MLflow needs the extra: pip install 'tfzoo\[mlflow\]'"):
        MlflowCallback()
