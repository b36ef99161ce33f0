"""Runs at a URL: trained, killed, resumed, damaged, loaded; over stores that fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import jax
import numpy as np
import pytest

from kmm_jax.data import retries
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.training import checkpoint, run_place, store
from kmm_jax.training.checkpoint import Checkpoints, restore_params, saved_steps
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.loop import Result, train
from kmm_jax.training.piece_checkpoints import PieceFolder
from kmm_jax.training.pieces import Block, packed
from kmm_jax.training.run_place import RunPlace
from kmm_jax.training.sharding import MeshConfig
from kmm_jax.training.state import TrainState
from tests.training import toy
from tests.training.test_loop import records

URL = "memory://bucket/run"
OFTEN = CheckpointConfig(every="2 steps", keep_latest=6)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No waiting between tries, an empty store, working folders of this test alone."""
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    yield
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same run on a local disk, never interrupted."""
    return run(tmp_path_factory.mktemp("whole"))


def run(where: str | Path, **changes: Any) -> Result:
    stop_after = changes.pop("stop_after", None)
    experiment = toy.experiment(ema=0.9, evaluators=(toy.ToyEvaluator(),), **changes)
    return train(experiment, where, loader=toy.ToyLoader(), stop_after=stop_after)


def assert_same(one: Result, other: Result) -> None:
    states = jax.device_get(one.state), jax.device_get(other.state)
    jax.tree.map(np.testing.assert_array_equal, *states)


def fetched(tmp_path: Path, url: str = URL) -> Path:
    store.fetch(url, tmp_path / "fetched")
    return tmp_path / "fetched"


def files(url: str = URL) -> list[str]:
    return fsspec.core.url_to_fs(url)[0].find(url)


def abstract(params: Any) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), params)


class Faults:
    """Calls of the memory file system that fail: ``plan`` tells, by method and path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan: Callable[[str, str], Exception | None] = lambda method, path: None
        self.failed = 0
        memory = type(fsspec.filesystem("memory"))
        for method in ("pipe_file", "cat_file", "ls", "rm"):
            original = getattr(memory, method)

            def faulty(
                system: Any, path: Any, *rest: Any, o: Any = original, m: str = method, **named: Any
            ) -> Any:
                error = self.plan(m, str(path))
                if error is not None:
                    self.failed += 1
                    raise error
                return o(system, path, *rest, **named)

            monkeypatch.setattr(memory, method, faulty)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def test_a_run_at_a_url_continues_on_another_host_to_the_same_bytes(
    whole: Result, tmp_path: Path
) -> None:
    run(URL, stop_after=6)
    shutil.rmtree(RunPlace(URL).folder)  # another host has none
    result = run(URL)
    assert result.run_dir == URL and result.step == 12
    assert_same(result, whole)
    assert records(fetched(tmp_path)) == records(whole.run_dir)
    assert saved_steps(URL) == [12, 8]
    assert json.loads((fetched(tmp_path) / "time.json").read_text())["starts"] == 2
    assert any("tensorboard/events" in name for name in files())


def test_a_checkpoint_of_one_mesh_is_read_on_another(whole: Result) -> None:
    mesh = MeshConfig(data=2, fsdp=2, tensor=2, fsdp_min_size=1)
    train(toy.experiment(mesh=mesh), URL, loader=toy.ToyLoader(), stop_after=4)
    kernel = next(
        json.loads(store.get(f"{URL}/checkpoints/{name}/00000-of-00001.json"))["arrays"]
        for name, _ in store.listing(f"{URL}/checkpoints")
    )["params/up/kernel"]
    assert len(kernel["pieces"]) == 4, "each part once, though two devices hold it"
    result = train(toy.experiment(), URL, loader=toy.ToyLoader())
    alone = train(toy.experiment(), "memory://bucket/alone", loader=toy.ToyLoader())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        *(jax.device_get(one.state.params) for one in (result, alone)),
    )


def test_what_a_kill_leaves_of_a_save_counts_for_nothing(whole: Result) -> None:
    run(URL, stop_after=8)
    newest = next(name for name, _ in store.listing(f"{URL}/checkpoints") if name[0] == "8")
    store.remove(f"{URL}/checkpoints/{newest}/00000-of-00001.json")  # it is put last
    assert saved_steps(URL) == [4]
    assert_same(run(URL), whole)
    assert not any(newest in name for name in files()), "swept"


def _largest(step: int) -> str:
    system = fsspec.filesystem("memory")
    names = [name for name in files() if f"/{step}-" in name and name.endswith(".bin")]
    return max(names, key=system.size)


def _truncate(system: Any, step: int) -> None:
    name = _largest(step)
    system.pipe_file(name, system.cat_file(name)[:-100])


def _flip(system: Any, step: int) -> None:
    content = bytearray(system.cat_file(_largest(step)))
    content[50] ^= 1
    system.pipe_file(_largest(step), bytes(content))


def _remove(system: Any, step: int) -> None:
    system.rm(_largest(step))


@pytest.mark.parametrize("damage", [_truncate, _flip, _remove])
def test_a_damaged_checkpoint_at_a_url_is_said_and_passed_over(
    damage: Callable[[Any, int], None], whole: Result, capsys: pytest.CaptureFixture
) -> None:
    run(URL)
    damage(fsspec.filesystem("memory"), 12)
    _, step = restore_params(URL, abstract(whole.state.params), weights="params")
    if damage is _remove:
        assert step == 8 and "is damaged and passed over" in capsys.readouterr().err
    result = run(URL)
    assert "is damaged and passed over; kept" in capsys.readouterr().err
    assert_same(result, whole)
    assert saved_steps(URL) == [12, 8]
    assert any(name.endswith("/damaged") for name in files())


def test_the_newest_and_the_best_are_kept_at_a_url() -> None:
    config = CheckpointConfig(
        every="2 steps", keep_latest=1, keep_best=1, best_metric="loss", best_is="highest"
    )
    run(URL, checkpoint=config)
    by_step = {
        record["step"]: record["loss"]
        for record in map(json.loads, store.get(f"{URL}/metrics.jsonl").splitlines())
        if "loss" in record
    }
    best = max((2, 4, 6, 8, 10, 12), key=by_step.__getitem__)
    assert saved_steps(URL) == sorted({12, best}, reverse=True)


def test_a_store_that_fails_every_third_request_is_waited_out(
    whole: Result, faults: Faults
) -> None:
    kinds = [ConnectionResetError("reset by peer"), TimeoutError("timed out"), OSError(5, "503")]
    calls = []

    def plan(method: str, path: str) -> Exception | None:
        calls.append(method)
        return kinds[len(calls) % 9 // 3] if len(calls) % 3 == 0 else None

    faults.plan = plan
    run(URL, stop_after=6)
    assert_same(run(URL), whole)
    assert faults.failed > 20


def test_an_outage_is_said_and_training_goes_on(
    whole: Result, faults: Faults, capsys: pytest.CaptureFixture
) -> None:
    out = [True]

    def plan(method: str, path: str) -> Exception | None:
        if "/checkpoints/8-" in path:
            out[0] = False  # the store is back
        during = method == "pipe_file" and ("/checkpoints/4-" in path or "/checkpoints/6-" in path)
        return ConnectionResetError("reset by peer") if during and out[0] else None

    faults.plan = plan
    result = run(URL, checkpoint=OFTEN)
    said = capsys.readouterr().err
    assert (
        "the checkpoint of step 4 could not be written to memory://bucket/run/checkpoints" in said
    )
    assert "out of reach after 7 tries" in said and "training goes on" in said
    assert saved_steps(URL) == [12, 10, 8, 2]
    assert_same(result, whole)


def test_a_store_that_is_out_for_good_ends_training_and_says_why(faults: Faults) -> None:
    faults.plan = lambda method, path: (
        TimeoutError("no answer") if method == "pipe_file" and "/checkpoints/" in path else None
    )
    with pytest.raises(
        ConnectionError, match=r"3 checkpoints in a row .* rather than go on unsaved"
    ):
        run(URL, checkpoint=OFTEN)
    assert saved_steps(URL) == []


def test_a_run_whose_last_save_failed_does_not_end_well(faults: Faults) -> None:
    faults.plan = lambda method, path: (
        TimeoutError("no answer") if method == "pipe_file" and "/checkpoints/12-" in path else None
    )
    with pytest.raises(ConnectionError, match="the last checkpoint is not in memory://"):
        run(URL)
    faults.plan = lambda method, path: None
    assert saved_steps(URL) == [8, 4]
    assert run(URL).step == 12


def test_a_refused_write_ends_before_anything_is_compiled(faults: Faults) -> None:
    faults.plan = lambda method, path: (
        PermissionError("403: no storage.objects.create") if method == "pipe_file" else None
    )
    loader = toy.ToyLoader()
    with pytest.raises(DataError, match=r"cannot be written: PermissionError: 403"):
        train(toy.experiment(), URL, loader=loader)
    assert not loader.asked


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), PermissionError("403")])
def test_a_store_out_of_reach_is_not_taken_for_damage_at_a_url(
    error: Exception, faults: Faults
) -> None:
    run(URL)
    faults.plan = lambda method, path: error if path.endswith(".bin") else None
    with pytest.raises((ConnectionError, DataError), match=r"out of reach|cannot be read"):
        run(URL)
    assert saved_steps(URL) == [12, 8]
    assert not any(name.endswith("/damaged") for name in files())


def test_old_checkpoints_that_may_not_be_removed_are_said_once(
    faults: Faults, capsys: pytest.CaptureFixture
) -> None:
    faults.plan = lambda method, path: PermissionError("retention") if method == "rm" else None
    run(URL, checkpoint=CheckpointConfig(every="2 steps"))
    assert capsys.readouterr().err.count("old checkpoints stay") == 1
    assert len(saved_steps(URL)) == 6


def test_a_run_copied_to_a_disk_goes_on_there(whole: Result, tmp_path: Path) -> None:
    run(URL, stop_after=8)
    fsspec.filesystem("memory").get(URL, str(tmp_path / "copy"), recursive=True)
    assert saved_steps(tmp_path / "copy") == [8, 4]
    assert_same(run(tmp_path / "copy"), whole)


def test_a_local_run_copied_to_a_url_is_refused_in_words(whole: Result) -> None:
    fsspec.filesystem("memory").put(f"{whole.run_dir}/", URL, recursive=True)
    with pytest.raises(DataError, match="was written on a local disk"):
        run(URL)


def test_what_cannot_be_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nosuch://b/run: cannot be opened"):
        run("nosuch://b/run")
    with pytest.raises(ConfigError, match="give the URL as a string: gs://bucket/run"):
        run(Path("gs://bucket/run"))
    store.put("memory://bucket/other/report.pdf", b"x")
    with pytest.raises(DataError, match="memory://bucket/other exists and holds something else"):
        run("memory://bucket/other")


def test_files_change_at_the_url_only_when_they_changed_here(faults: Faults) -> None:
    place = RunPlace(URL)
    (place.folder / "tokenizer").mkdir()
    (place.folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (place.folder / ".config.json.0.tmp").write_text("half")
    puts: list[str] = []
    faults.plan = lambda method, path: puts.append(path) if method == "pipe_file" else None
    place.publish()
    place.publish()
    assert len(puts) == 1 and puts[0].endswith("run/tokenizer/tokenizer.json")
    (place.folder / "tokenizer" / "tokenizer.json").write_text("{ }")
    place.publish()
    again = RunPlace(URL)
    assert (again.folder / "tokenizer" / "tokenizer.json").read_text() == "{ }"
    again.publish()
    assert len(puts) == 2


def test_a_save_that_fails_on_a_disk_is_said_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoints = checkpoint.Checkpoints(tmp_path, CheckpointConfig())

    def stale() -> None:
        raise OSError(116, "Stale file handle")

    for step in range(checkpoint.FAILED_SAVES - 1):
        checkpoints._pending = step, stale
        checkpoints.wait()
    assert capsys.readouterr().err.count("training goes on") == checkpoint.FAILED_SAVES - 1
    checkpoints._pending = 9, stale
    with pytest.raises(ConnectionError, match="in a row"):
        checkpoints.wait()
    checkpoints.close()


def little(value: float) -> TrainState:
    """A state of a few numbers."""
    params = {"w": jax.numpy.full((8,), value)}
    return TrainState(
        step=jax.numpy.int32(value), params=params, opt_state={"m": jax.numpy.zeros(3)}, ema=None
    )


def save(checkpoints: Checkpoints, *steps: int, **metrics: float) -> None:
    for step in steps:
        checkpoints.save(step, little(step), metrics)
    checkpoints.wait()


def folders() -> list[str]:
    return [name for name, _ in store.listing(f"{URL}/checkpoints")]


def test_a_process_need_not_see_what_process_0_has_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoints = Checkpoints(URL, OFTEN)
    save(checkpoints, 1, 2)
    checkpoints.close()
    _truncate(fsspec.filesystem("memory"), 2)
    damaged = next(name for name in folders() if name.startswith("2-"))

    def agree(true: bool) -> bool:
        if true:  # process 0 is quicker than this one
            store.put(f"{URL}/checkpoints/{damaged}/damaged", b"")
        return true

    monkeypatch.setattr(checkpoint, "_everywhere", agree)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    state = checkpoint.restore(URL, abstract(little(0)))
    assert state is not None and int(state.step) == 1


def test_one_who_reads_a_run_that_trains_gets_what_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoints = Checkpoints(URL, CheckpointConfig(keep_latest=1))
    save(checkpoints, 1)
    parts = PieceFolder.parts

    def slowly(folder: PieceFolder, step: int) -> set[str]:
        if step == 1:
            save(checkpoints, 2)
        return parts(folder, step)

    monkeypatch.setattr(PieceFolder, "parts", slowly)
    assert restore_params(URL, abstract(little(0).params))[1] == 2
    checkpoints.close()


def test_a_start_before_that_is_still_alive_makes_nobody_remove_what_is_whole() -> None:
    config = CheckpointConfig(keep_latest=1)
    before = Checkpoints(URL, config)
    save(before, 50)
    now = Checkpoints(URL, config)
    save(before, 100)
    _remove(fsspec.filesystem("memory"), 100)  # swept while it was being written
    save(now, 60, 70)
    assert {name.partition("-")[0] for name in folders()} == {"70", "100"}
    save(before, 110)
    assert any(name.startswith("70-") for name in folders())
    _remove(fsspec.filesystem("memory"), 110)
    for checkpoints in (before, now):
        checkpoints.close()
    state = checkpoint.restore(URL, abstract(little(0)))
    assert state is not None and int(state.step) == 70


def test_half_written_checkpoints_that_may_not_be_removed_stay(
    faults: Faults, capsys: pytest.CaptureFixture
) -> None:
    store.put(f"{URL}/checkpoints/2-0000abcd/00000-of-00001-00000.bin", b"x")
    faults.plan = lambda method, path: PermissionError("403") if method == "rm" else None
    Checkpoints(URL, OFTEN).close()
    assert "half-written checkpoints stay" in capsys.readouterr().err


def test_a_removal_that_fails_is_no_save_that_failed(
    faults: Faults, capsys: pytest.CaptureFixture
) -> None:
    faults.plan = lambda method, path: ConnectionResetError("503") if method == "rm" else None
    checkpoints = Checkpoints(URL, CheckpointConfig(keep_latest=1))
    save(checkpoints, 1, 2, 3, 4, 5)
    checkpoints.close()
    assert saved_steps(URL) == [5, 4, 3, 2, 1]
    assert "could not be written" not in capsys.readouterr().err


def test_an_index_that_cannot_be_read_stops_no_save(capsys: pytest.CaptureFixture) -> None:
    ranked = CheckpointConfig(keep_latest=1, keep_best=1, best_metric="loss", best_is="lowest")
    checkpoints = Checkpoints(URL, ranked)
    save(checkpoints, 1, loss=1.0)
    store.put(f"{URL}/checkpoints/{folders()[0]}/00000-of-00001.json", b'{"format')
    save(checkpoints, 2, loss=2.0)
    checkpoints.close()
    assert saved_steps(URL) == [2, 1]
    assert "old checkpoints stay" in capsys.readouterr().err


def test_what_is_larger_than_a_file_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(1 * 5 * 7, dtype=np.float32).reshape(1, 5, 7)
    blocks = [Block(name="a", bounds=((2, 3), (0, 5), (7, 14)), values=values)]
    sizes = [sum(part.values.nbytes for part in pack) for pack in packed(blocks, 64)]
    assert max(sizes) <= 64 and sum(sizes) == values.nbytes
    assert max(part.values.nbytes for pack in packed(blocks, 16) for part in pack) <= 16
    monkeypatch.setattr("kmm_jax.training.piece_checkpoints._FILE_BYTES", 12)
    checkpoints = Checkpoints(URL, OFTEN)
    save(checkpoints, 3)
    checkpoints.close()
    state = checkpoint.restore(URL, abstract(little(0)))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(little(3)))
    assert sum(name.endswith(".bin") for name in files()) >= 3


def test_a_file_that_vanishes_while_files_are_put_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = RunPlace(URL)
    (place.folder / "a.log").write_text("x")
    (place.folder / "b.txt").write_text("y")

    def mark(path: Path, of: Callable[[Path], tuple[int, int]] = run_place._mark) -> Any:
        if path.name == "a.log":
            path.unlink()
        return of(path)

    monkeypatch.setattr(run_place, "_mark", mark)
    place.publish()
    assert [name for name, _ in store.listing(URL)] == ["b.txt"]
