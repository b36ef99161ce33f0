"""Trackers: real W&B offline and MLflow in files where they are installed, and ones that fail."""

import dataclasses
import json
import threading
import time

import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.training import dump, trackers
from kmm_jax.training.background import Background, tracked_id
from kmm_jax.training.loop import NotFiniteError, train
from kmm_jax.training.metrics import read_records
from kmm_jax.training.overrides import apply
from kmm_jax.training.trackers import MLflow, WandB
from tests.training import toy


class Recorder:
    """Takes what it is told; fails while ``failing``."""

    def __init__(self):
        self.taken, self.failing, self.closed = [], False, None

    def write(self, step, values):
        if self.failing:
            raise ConnectionError("no network\nhere")
        self.taken.append((step, values))

    def close(self, *, failed):
        self.closed = failed


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_everything_arrives_in_order_before_it_is_closed():
    recorder = Recorder()
    background = Background("X", lambda: recorder)
    for step in range(100):
        background.write(step, {"loss": step / 2})
    background.close()
    assert recorder.taken == [(step, {"loss": step / 2}) for step in range(100)]
    assert recorder.closed is False


def test_a_failure_is_said_once_and_nothing_is_lost_when_it_passes(capsys):
    recorder = Recorder()
    recorder.failing = True
    background = Background("X", lambda: recorder, pause=0.001)
    background.write(1, {"loss": 1.0})
    background.write(2, {"loss": 2.0})
    time.sleep(0.05)
    recorder.failing = False
    wait_until(lambda: len(recorder.taken) == 2)
    recorder.failing = True
    background.write(3, {"loss": 3.0})
    background.close()
    assert recorder.taken == [(1, {"loss": 1.0}), (2, {"loss": 2.0})]
    (line,) = capsys.readouterr().err.splitlines()
    assert "tracker X fails (ConnectionError: no network here)" in line
    assert "training goes on, and metrics.jsonl has everything" in line


def test_one_that_hangs_holds_nothing_up_for_long(capsys):
    hang = threading.Event()
    background = Background("X", hang.wait, patience=0.05, held=10)
    began = time.monotonic()
    for step in range(20):
        background.write(step, {})
    background.close(failed=True)
    assert time.monotonic() - began < 5
    assert "records are left out there" in capsys.readouterr().err
    hang.set()


def test_a_run_keeps_its_id(tmp_path):
    made = tracked_id(tmp_path)
    assert (
        made == tracked_id(tmp_path) == json.loads((tmp_path / "tracking.json").read_text())["id"]
    )
    assert made != tracked_id(tmp_path / "other")


TOLD = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fake:
    """A tracker that notes what it is told, or that no network reaches."""

    reachable: bool = True

    def check(self):
        TOLD.clear()

    def open(self, run):
        if not self.reachable:
            raise TimeoutError("unreachable")
        TOLD.append(run)
        recorder = Recorder()
        TOLD.append(recorder)
        return recorder


def test_a_tracker_is_told_the_finite_numbers_of_every_record(tmp_path):
    experiment = toy.experiment(trackers=(Fake(),), evaluators=(toy.ToyEvaluator(),))
    train(experiment, tmp_path, loader=toy.ToyLoader())
    run, recorder = TOLD
    assert (run.name, run.id, run.run_dir) == ("toy", tracked_id(tmp_path), tmp_path)
    assert run.config == dump.to_json(experiment)
    expected = [
        (
            record.pop("step"),
            {k: v for k, v in record.items() if isinstance(v, float | int)},
        )
        for record in read_records(tmp_path / "metrics.jsonl")
    ]
    assert recorder.taken == expected
    assert recorder.closed is False


def test_a_run_that_fails_is_closed_as_such(tmp_path):
    with pytest.raises(NotFiniteError):
        train(toy.experiment(trackers=(Fake(),)), tmp_path, loader=toy.ToyLoader(poison=2))
    assert TOLD[1].closed is True


def test_a_tracker_out_of_reach_does_not_end_training(tmp_path, capsys):
    experiment = toy.experiment(trackers=(Fake(reachable=False),), duration="3")
    assert train(experiment, tmp_path, loader=toy.ToyLoader()).end == "finished"
    assert capsys.readouterr().err.count("tracker Fake fails (TimeoutError: unreachable)") == 1
    assert len(list(read_records(tmp_path / "metrics.jsonl"))) == 3


def test_trackers_may_change_when_a_run_goes_on(tmp_path):
    train(toy.experiment(duration="2"), tmp_path, loader=toy.ToyLoader())
    longer = toy.experiment(duration="4", trackers=(Fake(),))
    train(longer, tmp_path, loader=toy.ToyLoader())
    assert [step for step, _ in TOLD[1].taken] == [3, 4]


def test_trackers_are_chosen_and_set_by_overrides():
    changed = apply(
        toy.experiment(),
        [
            "trackers=WandB,mlflow",
            "trackers.0.project=가게",
            "trackers.0.mode=offline",
            "trackers.0.tags=a,b",
            "trackers.1.tracking_uri=http://host:5000",
        ],
    )
    assert changed.trackers == (
        WandB(project="가게", mode="offline", tags=("a", "b")),
        MLflow(tracking_uri="http://host:5000"),
    )
    assert (
        dump.from_json(json.loads(json.dumps(dump.to_json(changed.trackers)))) == changed.trackers
    )
    assert apply(changed, ["trackers=()"]).trackers == ()
    with pytest.raises(ConfigError, match="trackers"):
        apply(changed, ["trackers=tensorboard"])


def test_the_same_tracker_twice_is_refused():
    with pytest.raises(ConfigError, match="given twice"):
        toy.experiment(trackers=(WandB(), WandB()))


@pytest.mark.parametrize(("config", "module"), [(WandB(), "wandb"), (MLflow(), "mlflow")])
def test_a_missing_package_is_said_before_anything_is_made(tmp_path, monkeypatch, config, module):
    # A folder of that name, which W&B itself leaves behind, is no package.
    (tmp_path / module).mkdir()
    found = trackers.importlib.machinery.PathFinder.find_spec(module, [str(tmp_path)])
    for spec in (None, found):
        monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name, spec=spec: spec)
        with pytest.raises(ConfigError, match=rf"{module}, .*pip install 'kmm-jax\[trackers\]'"):
            experiment = toy.experiment(trackers=(config,))
            train(experiment, tmp_path / "run", loader=toy.ToyLoader())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    module = pytest.importorskip("wandb")
    yield module
    module.teardown()


def test_nobody_logged_in_is_said_before_anything_is_made(wandb, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigError, match="mode=offline"):
        train(toy.experiment(trackers=(WandB(),)), tmp_path / "run", loader=toy.ToyLoader())
    assert not (tmp_path / "run").exists()


def _wandb_records(file):
    """The records of a ``.wandb`` file: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def test_wandb_goes_on_with_the_same_run(wandb, tmp_path, capsys):
    experiment = toy.experiment(
        trackers=(WandB(project="가게", mode="offline", tags=("시험",)),),
        evaluators=(toy.ToyEvaluator(),),
    )
    train(experiment, tmp_path, loader=toy.ToyLoader(), stop_after=5)
    train(experiment, tmp_path, loader=toy.ToyLoader())
    assert "tracker" not in capsys.readouterr().err
    wandb.teardown()  # its own process writes, and has done so when it ends
    runs, losses = [], {}
    for file in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        for record in _wandb_records(file):
            if record.HasField("run"):
                runs.append(record.run)
            row = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
            if "loss" in row:
                losses[int(row["step"])] = float(row["loss"])
    assert {(run.run_id, run.project) for run in runs} == {(tracked_id(tmp_path), "가게")}
    assert {run.display_name for run in runs} == {"toy"} and list(runs[0].tags) == ["시험"]
    assert losses == {
        r["step"]: r["loss"] for r in read_records(tmp_path / "metrics.jsonl") if "loss" in r
    }


def test_mlflow_goes_on_with_the_same_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow")
    uri = f"file://{tmp_path / 'mlruns'}"
    experiment = toy.experiment(
        trackers=(MLflow(experiment="가게", tracking_uri=uri),), evaluators=(toy.ToyEvaluator(),)
    )
    with pytest.raises(NotFiniteError):
        train(experiment, tmp_path / "run", loader=toy.ToyLoader(poison=5))
    client = mlflow.MlflowClient(tracking_uri=uri)
    where = client.get_experiment_by_name("가게").experiment_id
    assert [run.info.status for run in client.search_runs([where])] == ["FAILED"]
    train(experiment, tmp_path / "run", loader=toy.ToyLoader())
    (run,) = client.search_runs([where])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "toy")
    leaves = dump.leaves(dump.to_json(experiment))
    assert run.data.params == {name: str(value) for name, value in leaves.items()}
    expected = list(read_records(tmp_path / "run" / "metrics.jsonl"))
    for name in ("loss", "held_out/error"):
        # Step 5 was measured by both; the same came out.
        history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        assert history == {r["step"]: r[name] for r in expected if name in r}
    assert "tracker" not in capsys.readouterr().err


def test_mlflow_takes_names_it_does_not_allow():
    assert trackers._mlflow_name("점수/recall@1 (%)") == "점수/recall_1 ___"


def test_a_failure_of_a_moment_at_the_end_costs_nothing(monkeypatch):
    monkeypatch.setattr("kmm_jax.training.background._LAST_PAUSE_SECONDS", 0.001)
    recorder, write = Recorder(), Recorder.write
    failures = [ConnectionError("reset")]
    begin = threading.Event()

    def once(step, values):
        begin.wait()
        if step == 2 and failures:
            raise failures.pop()
        write(recorder, step, values)

    recorder.write = once
    background = Background("X", lambda: recorder)
    for step in range(5):
        background.write(step, {})
    threading.Timer(0.05, begin.set).start()
    background.close()
    assert [step for step, _ in recorder.taken] == [0, 1, 2, 3, 4]
    assert recorder.closed is False


def test_a_run_whose_last_records_are_refused_is_closed_all_the_same(monkeypatch):
    monkeypatch.setattr("kmm_jax.training.background._LAST_PAUSE_SECONDS", 0.001)
    recorder = Recorder()
    recorder.failing = True
    background = Background("X", lambda: recorder)
    background.write(1, {})
    background.close(failed=True)
    assert recorder.taken == [] and recorder.closed is True
