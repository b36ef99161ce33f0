import dataclasses
import json
import os
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.training import run_directory
from kmm_jax.training.checkpoint import saved_steps
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.loop import NotFiniteError, train
from kmm_jax.training.metrics import OF_PROCESSES, read_records
from kmm_jax.training.optimizer import Adafactor, AdamW
from kmm_jax.training.run_place import RunPlace
from kmm_jax.training.sharding import MeshConfig
from tests.training import toy


def records(run_dir):
    """The records without what tells of the processes."""
    return [
        {k: v for k, v in record.items() if not k.startswith(OF_PROCESSES)}
        for record in read_records(run_dir / "metrics.jsonl")
    ]


def losses(run_dir):
    return [r["loss"] for r in records(run_dir) if "loss" in r]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The records of an undisturbed run of the toy experiment."""
    run_dir = tmp_path_factory.mktemp("whole")
    train(toy.experiment(), run_dir, loader=toy.ToyLoader())
    return records(run_dir)


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    """(experiment, its losses on one device), for each optimizer."""
    found = {}
    for name, config in (("adamw", AdamW(learning_rate=1e-2)), ("adafactor", Adafactor())):
        run_dir = tmp_path_factory.mktemp(name)
        experiment = toy.experiment(
            optimizer=config, duration="6", checkpoint=CheckpointConfig(every="100")
        )
        train(experiment, run_dir, loader=toy.ToyLoader())
        found[name] = experiment, losses(run_dir)
    return found


@pytest.mark.parametrize(
    ("optimizer", "mesh"),
    [
        ("adamw", MeshConfig(data=8)),
        ("adamw", MeshConfig(data=1, fsdp=8, fsdp_min_size=1)),
        ("adamw", MeshConfig(data=2, fsdp=2, tensor=2, fsdp_min_size=1)),
        ("adafactor", MeshConfig(data=2, fsdp=2, tensor=2, fsdp_min_size=1)),
    ],
)
def test_the_losses_do_not_depend_on_the_mesh(on_one_device, tmp_path, optimizer, mesh):
    experiment, expected = on_one_device[optimizer]
    train(dataclasses.replace(experiment, mesh=mesh), tmp_path, loader=toy.ToyLoader())
    np.testing.assert_allclose(losses(tmp_path), expected, rtol=0, atol=1e-5)


def test_a_mean_loss_in_parts_equals_the_whole_batch(on_one_device, tmp_path):
    experiment, expected = on_one_device["adamw"]
    experiment = dataclasses.replace(experiment, accumulate=4, mesh=MeshConfig(data=4))
    train(experiment, tmp_path, loader=toy.ToyLoader())
    np.testing.assert_allclose(losses(tmp_path), expected, rtol=0, atol=1e-5)


def test_the_loss_falls_everything_is_written_and_the_end_is_the_end(tmp_path):
    loader = toy.ToyLoader()
    experiment = toy.experiment(evaluators=(toy.ToyEvaluator(every="5 steps"),))
    result = train(experiment, tmp_path, loader=loader)
    assert (result.end, result.step, int(result.state.step)) == ("finished", 12, 12)
    written = losses(tmp_path)
    assert len(written) == 12 and written[-1] < written[0]
    assert [r["step"] for r in records(tmp_path) if "evaluator" in r] == [5, 10, 12]
    assert saved_steps(tmp_path) == [12, 8]
    assert json.loads((tmp_path / "config.json").read_text())["experiment"]["name"] == "toy"
    assert list((tmp_path / "tensorboard").iterdir())
    assert loader.closed and loader.asked[:12] == list(range(12))
    first = next(iter(read_records(tmp_path / "metrics.jsonl")))
    assert {"speed/examples_per_second", "speed/data_wait", "data/bad_rows"} <= first.keys()
    before, loader = records(tmp_path), toy.ToyLoader()
    assert train(experiment, tmp_path, loader=loader).end == "finished"
    assert loader.asked == [] and records(tmp_path) == before


def test_a_run_in_two_parts_writes_the_same_bytes_of_metrics(tmp_path):
    experiment = toy.experiment(
        task=toy.ToyTask(noise=0.1), ema=0.9, evaluators=(toy.ToyEvaluator(),)
    )
    train(experiment, tmp_path / "whole", loader=toy.ToyLoader())
    part = train(experiment, tmp_path / "parts", loader=toy.ToyLoader(), stop_after=5)
    assert (part.end, part.step) == ("stop_after", 5)
    train(experiment, tmp_path / "parts", loader=toy.ToyLoader())
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_a_longer_duration_and_another_mesh_continue_a_run(tmp_path):
    train(toy.experiment(duration="4"), tmp_path, loader=toy.ToyLoader())
    longer = toy.experiment(duration="6", mesh=MeshConfig(data=2, fsdp=4, fsdp_min_size=1))
    result = train(longer, tmp_path, loader=toy.ToyLoader())
    assert result.step == 6
    assert len(result.state.params["up"]["bias"].sharding.device_set) == 8


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    train(toy.experiment(duration="1"), tmp_path, loader=toy.ToyLoader())
    with pytest.raises(ConfigError, match=r"optimizer\.b1: 0\.9 -> 0\.8"):
        train(toy.experiment(optimizer=AdamW(b1=0.8)), tmp_path, loader=toy.ToyLoader())


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "사진.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="something else than a run"):
        train(toy.experiment(), tmp_path, loader=toy.ToyLoader())


def test_the_tokenizer_is_copied_and_no_other_taken_later(tmp_path):
    tokenizer, run_dir = tmp_path / "tokenizer", tmp_path / "run"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    experiment = toy.experiment(duration="1", tokenizer=str(tokenizer))
    train(experiment, run_dir, loader=toy.ToyLoader())
    assert (run_dir / "tokenizer" / "tokenizer.json").read_text() == "{}"
    (tokenizer / "tokenizer.json").write_text('{"other": 1}')
    with pytest.raises(ConfigError, match="another tokenizer"):
        train(experiment, run_dir, loader=toy.ToyLoader())
    (tokenizer / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="kmm tokenizer train"):
        train(experiment, tmp_path / "run2", loader=toy.ToyLoader())


@dataclasses.dataclass(frozen=True)
class Reading:
    """An evaluator that reads texts by a tokenizer of its own."""

    data: SimpleNamespace
    name: str = "reading"
    every: str = "1 steps"

    def run(self, functions, params):
        yield "score", 1.0


@pytest.mark.parametrize("same", [True, False])
def test_an_evaluator_reads_texts_as_the_run_does(tmp_path, same):
    own, other = tmp_path / "own", tmp_path / "other"
    for folder, text in ((own, "{}"), (other, "{}" if same else '{"other": 1}')):
        folder.mkdir()
        (folder / "tokenizer.json").write_text(text)
    evaluator = Reading(SimpleNamespace(tokenizer=str(other)))
    where = RunPlace(tmp_path / "run")
    experiment = toy.experiment(tokenizer=str(own), evaluators=(evaluator,))
    if same:
        assert run_directory.check(experiment, where) == own / "tokenizer.json"
    else:
        with pytest.raises(ConfigError, match=rf"evaluators\.0\.data\.tokenizer={own}"):
            run_directory.check(experiment, where)


def test_the_average_follows_the_formula(tmp_path):
    decay, expected, params = 0.75, None, None
    for step in (1, 2):
        result = train(
            toy.experiment(duration="8", ema=decay),
            tmp_path,
            loader=toy.ToyLoader(),
            stop_after=step,
        )
        params = jax.device_get(result.state.params["up"]["kernel"])
        if expected is None:  # before the first step it is the parameters themselves
            key = jax.random.fold_in(jax.random.key(0), 0)
            expected = np.asarray(nnx.state(toy.ToyTask().init(key))["up"]["kernel"][...])
        expected = decay * expected + (1 - decay) * params
    np.testing.assert_allclose(result.state.ema["up"]["kernel"], expected, rtol=1e-6)
    assert not np.allclose(expected, params)


def test_a_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path, whole):
    with pytest.raises(NotFiniteError) as caught:
        train(toy.experiment(), tmp_path, loader=toy.ToyLoader(poison=9))
    message = str(caught.value)
    assert "step 10 is not finite" in message
    assert "examples 144 to 159" in message
    assert "checkpoint of step 8 is kept" in message
    assert saved_steps(tmp_path) == [8, 4]
    # With the data mended the same command ends as if nothing had been.
    train(toy.experiment(), tmp_path, loader=toy.ToyLoader())
    assert records(tmp_path) == whole


@dataclasses.dataclass
class SignallingLoader(toy.ToyLoader):
    """Sends this process a signal when it is asked for a batch."""

    at: int = 0
    number: int = signal.SIGTERM

    def batches(self, start_step=0):
        for step, batch in enumerate(super().batches(start_step), start_step):
            if step == self.at:
                os.kill(os.getpid(), self.number)
            yield batch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_call_continues(tmp_path, number, capsys, whole):
    before = signal.getsignal(number)
    result = train(toy.experiment(), tmp_path, loader=SignallingLoader(at=5, number=number))
    assert result.end == signal.Signals(number).name
    assert result.step == 6 and saved_steps(tmp_path)[0] == 6
    assert "continue with the same command" in capsys.readouterr().err
    assert signal.getsignal(number) == before
    train(toy.experiment(), tmp_path, loader=toy.ToyLoader())
    assert records(tmp_path) == whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignallingEvaluator:
    """A long evaluation that a signal falls into, once."""

    name: str = "long"
    every: str = "4 steps"
    marker: str

    def run(self, functions, params):
        if not os.path.exists(self.marker):
            open(self.marker, "w").close()
            os.kill(os.getpid(), signal.SIGTERM)
        for i in range(1000):
            functions["predict"](params, {"x": toy.rows(i, 8)["x"]})
            if i == 3:
                break
        yield "long/score", 1.0


def test_a_signal_in_an_evaluation_saves_and_the_evaluation_is_made_up_for(tmp_path):
    evaluator = SignallingEvaluator(marker=str(tmp_path / "signalled"))
    experiment = toy.experiment(evaluators=(evaluator,), checkpoint=CheckpointConfig(every="100"))
    result = train(experiment, tmp_path / "run", loader=toy.ToyLoader())
    assert (result.end, result.step) == ("SIGTERM", 4)
    assert saved_steps(tmp_path / "run") == [4]
    train(experiment, tmp_path / "run", loader=toy.ToyLoader())
    train(experiment, tmp_path / "whole", loader=toy.ToyLoader())
    assert records(tmp_path / "run") == records(tmp_path / "whole")


@pytest.mark.parametrize("steps", [(1, 3), (3, 100)])
def test_a_trace_is_written_also_when_the_run_ends_within(tmp_path, steps):
    train(toy.experiment(duration="4", profile=steps), tmp_path, loader=toy.ToyLoader())
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    # A run continued behind the traced steps has none to end.
    train(toy.experiment(duration="5", profile=(0, 4)), tmp_path, loader=toy.ToyLoader())


def test_a_batch_that_does_not_divide_fails_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="global_batch_size 12 does not divide"):
        train(toy.experiment(global_batch_size=12, mesh=MeshConfig()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_that_cannot_take_the_batches_is_said_before_compiling(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(toy.ToyTask):
        def loss(self, module, batch, key, mesh):
            return module(batch["x"][:, :3]).mean(), {}

    with pytest.raises(ConfigError, match="cannot take the data's batches"):
        train(toy.experiment(task=Other()), tmp_path, loader=toy.ToyLoader())


def test_a_task_may_refuse_data_or_tokenizer(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Checked(toy.ToyTask):
        def check(self, *, data, vocabulary):
            raise ConfigError(f"no {data.image_size} pixels here")

    with pytest.raises(ConfigError, match="no 8 pixels here"):
        train(toy.experiment(task=Checked()), tmp_path, loader=toy.ToyLoader())
