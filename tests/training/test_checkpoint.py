import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.training import checkpoint, orbax_checkpoints
from kmm_jax.training.checkpoint import restore_params, saved_steps
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.loop import train
from tests.training import toy
from tests.training.test_loop import records


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 12 steps with checkpoints at 8 and 12, and an average."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    result = train(toy.experiment(ema=0.9), run_dir, loader=toy.ToyLoader())
    return run_dir, jax.device_get(result.state)


@pytest.fixture
def run_dir(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def _abstract(params):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), params)


def _largest_file(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name == "d"]
    return max(files, key=lambda path: path.stat().st_size)


def _truncate(folder):
    file = _largest_file(folder)
    os.truncate(file, file.stat().st_size // 2)


def _remove_a_file(folder):
    _largest_file(folder).unlink()


def _remove_a_part(folder):
    shutil.rmtree(folder / "opt_state")


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")  # Orbax, when a part is missing
@pytest.mark.parametrize("damage", [_truncate, _remove_a_file, _remove_a_part])
def test_a_damaged_checkpoint_is_said_and_passed_over(run_dir, finished, damage, capsys):
    damage(run_dir / "checkpoints" / "12")
    result = train(toy.experiment(ema=0.9), run_dir, loader=toy.ToyLoader())
    assert "12 is damaged and passed over" in capsys.readouterr().err
    assert result.step == 12
    assert saved_steps(run_dir) == [12, 8]
    assert records(run_dir) == records(finished[0])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(result.state), finished[1])


def test_a_checkpoint_half_written_does_not_count(run_dir):
    folder = run_dir / "checkpoints"
    shutil.copytree(folder / "12", folder / "16.orbax-checkpoint-tmp-7")
    assert saved_steps(run_dir) == [12, 8]


def test_with_every_checkpoint_damaged_nothing_is_begun_anew(run_dir):
    for step in (8, 12):
        _remove_a_file(run_dir / "checkpoints" / str(step) / "params")
    with pytest.raises(DataError, match=r"no checkpoint in .* can be read"):
        train(toy.experiment(ema=0.9), run_dir, loader=toy.ToyLoader())
    assert saved_steps(run_dir) == [12, 8]


def test_parameters_come_back_without_the_optimizer(run_dir, finished):
    _, state = finished
    for step in (8, 12):
        shutil.rmtree(run_dir / "checkpoints" / str(step) / "opt_state")
    abstract = _abstract(state.params)
    average, step = restore_params(run_dir, abstract)
    assert step == 12
    jax.tree.map(np.testing.assert_array_equal, average, state.ema)
    params, _ = restore_params(run_dir, abstract, weights="params")
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    assert restore_params(run_dir, abstract, step=8)[1] == 8


def test_parameters_of_another_shape_are_refused(run_dir, finished):
    abstract = _abstract(jax.tree.map(lambda x: np.zeros((*x.shape[:-1], 7)), finished[1].params))
    with pytest.raises(DataError, match="or of another model"):
        restore_params(run_dir, abstract)


def test_what_is_not_there_is_said(run_dir, finished, tmp_path):
    abstract = _abstract(finished[1].params)
    with pytest.raises(DataError, match="no checkpoint of step 5; it has 8, 12"):
        restore_params(run_dir, abstract, step=5)
    with pytest.raises(DataError, match="kmm train"):
        restore_params(tmp_path / "nothing", abstract)
    shutil.rmtree(run_dir / "checkpoints" / "12" / "ema")
    with pytest.raises(DataError, match="holds no 'ema'"):
        restore_params(run_dir, abstract, step=12, weights="ema")


def test_the_best_is_kept_beside_the_latest(tmp_path):
    class Rising(toy.ToyLoader):
        """Targets that grow after step 6, so that the loss is lowest before."""

        def batches(self, start_step=0):
            for step, batch in enumerate(super().batches(start_step), start_step):
                yield batch | {"y": batch["y"] * (1 if step < 4 else 50)}

    config = CheckpointConfig(
        every="2 steps", keep_latest=1, keep_best=1, best_metric="loss", best_is="lowest"
    )
    train(
        toy.experiment(duration="10", checkpoint=config),
        tmp_path,
        loader=Rising(),
    )
    newest, best = saved_steps(tmp_path)
    assert newest == 10
    by_step = {r["step"]: r["loss"] for r in records(tmp_path)}
    assert best == min((2, 4, 6, 8, 10), key=by_step.__getitem__)


def test_a_best_metric_that_nobody_measures_is_said(tmp_path):
    config = CheckpointConfig(every="4 steps", keep_best=1, best_metric="held_out/eror")
    experiment = toy.experiment(checkpoint=config, evaluators=(toy.ToyEvaluator(every="4 steps"),))
    with pytest.raises(ConfigError, match="did you mean 'held_out/error'"):
        train(experiment, tmp_path, loader=toy.ToyLoader())


def test_parameters_of_an_older_step_are_not_taken_in_silence(run_dir, finished, capsys):
    _truncate(run_dir / "checkpoints" / "12" / "ema")
    _, step = restore_params(run_dir, _abstract(finished[1].params))
    assert step == 8
    assert "12 is damaged and passed over" in capsys.readouterr().err


def test_a_store_that_is_out_of_reach_is_not_taken_for_damage(run_dir, monkeypatch):
    def unreachable(*_):
        raise ValueError("UNAVAILABLE: connection reset by peer")

    monkeypatch.setattr(orbax_checkpoints.ocp, "load_checkpointables", unreachable)
    with pytest.raises(ValueError, match="UNAVAILABLE"):
        train(toy.experiment(ema=0.9), run_dir, loader=toy.ToyLoader())
    assert saved_steps(run_dir) == [12, 8]


def test_a_full_disk_is_an_oserror_of_its_folder(tmp_path, monkeypatch):
    checkpoints = checkpoint.Checkpoints(tmp_path, CheckpointConfig())

    def full():
        with checkpoints._writer._explained():
            raise ValueError("RESOURCE_EXHAUSTED: write: No space left on device")

    checkpoints._pending = 1, full
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoints.wait()
    assert str(caught.value.filename).startswith(str(tmp_path))
    checkpoints.close()


def test_a_step_whose_checkpoint_is_damaged_again_is_saved_again(run_dir, finished, capsys):
    folder = run_dir / "checkpoints"
    for kept in ("damaged-12", "damaged-12-2"):
        _remove_a_file(folder / "12" / "params")
        train(toy.experiment(ema=0.9), run_dir, loader=toy.ToyLoader())
        assert f"12 is damaged and passed over; kept as {kept}\n" in capsys.readouterr().err
        assert (folder / kept).is_dir()
        params, step = restore_params(run_dir, _abstract(finished[1].params), weights="params")
        assert step == 12
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), finished[1].params)


def test_a_damaged_checkpoint_that_cannot_be_renamed_is_not_said_to_be(
    run_dir, finished, capsys, monkeypatch
):
    _remove_a_file(run_dir / "checkpoints" / "12" / "params")

    def refused(path, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        jax.device_put(finished[1], jax.devices()[0]),
    )
    assert int(checkpoint.restore(run_dir, state).step) == 8
    assert "cannot be renamed (Permission denied)" in capsys.readouterr().err


def test_what_ended_a_run_is_not_hidden_by_a_save_that_failed_as_well(tmp_path, capsys):
    def opened():
        found = checkpoint.Checkpoints(tmp_path, CheckpointConfig(every="1 steps"))
        found._failed.append(ConnectionError("the store is away"))
        return found

    with pytest.raises(RuntimeError, match="the real reason"), opened():
        raise RuntimeError("the real reason")
    assert "the store is away" in capsys.readouterr().err
    with pytest.raises(ConnectionError, match="last checkpoint is not in"), opened():
        pass
