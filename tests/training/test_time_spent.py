"""Where a run's time goes, by a clock of our own."""

import pytest

from kmm_jax.training.loop import train
from kmm_jax.training.metrics import read_records
from kmm_jax.training.time_spent import TimeSpent
from tests.training import toy


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_what_is_not_spent_elsewhere_trained(tmp_path):
    clock = Clock()
    spent = TimeSpent(tmp_path, keep=True, clock=clock)
    with spent.spend("compile"):
        clock.now += 30
    clock.now += 60
    spent.add("data", 10)  # ten of the sixty
    with spent.spend("checkpoint"):
        clock.now += 10
    assert spent.seconds() == {"compile": 30, "data": 10, "checkpoint": 10, "train": 50}
    assert spent.goodput == pytest.approx(0.5)
    assert spent.line() == (
        "train 50%, compile 30%, data 10%, checkpoint 10%; goodput 50% over 1 start"
    )


def test_work_lost_and_time_off_lower_the_goodput(tmp_path):
    clock = Clock()
    first = TimeSpent(tmp_path, keep=True, clock=clock)
    clock.now += 100
    first.save()
    clock.now += 50  # lost: killed before the next checkpoint
    clock.now += 50  # and not running at all
    second = TimeSpent(tmp_path, keep=True, clock=clock)
    clock.now += 100
    assert second.seconds()["train"] == 200
    assert second.goodput == pytest.approx(200 / 300)
    assert second.line().endswith("goodput 67% over 2 starts")


def test_a_damaged_file_begins_anew(tmp_path):
    (tmp_path / "time.json").write_text("[1")
    assert TimeSpent(tmp_path, keep=True).starts == 1


def test_shares_are_those_since_they_were_asked_for_and_add_up(tmp_path):
    clock = Clock()
    first = TimeSpent(tmp_path, keep=True, clock=clock)
    clock.now += 1000
    first.save()
    spent = TimeSpent(tmp_path, keep=True, step=10, clock=clock)
    with spent.spend("compile"):
        clock.now += 6
    clock.now += 2
    assert spent.shares() == {
        "time/train": 0.25,
        "time/data": 0,
        "time/compile": 0.75,
        "time/evaluate": 0,
        "time/checkpoint": 0,
    }
    clock.now += 3
    spent.add("data", 1)
    with spent.spend("checkpoint"):
        clock.now += 1
    shares = spent.shares()
    assert (shares["time/train"], shares["time/data"]) == (0.5, 0.25)
    assert sum(shares.values()) == pytest.approx(1)


def _run(spent, clock, first, end, seconds):
    for step in range(first + 1, end + 1):
        clock.now += seconds
        spent.left(step, end)


def test_the_time_left_is_the_steps_left_at_the_measured_rate(tmp_path):
    clock = Clock()
    spent = TimeSpent(tmp_path, keep=True, clock=clock)
    with spent.spend("compile"):
        clock.now += 500
    assert spent.left(0, 100) is None
    clock.now += 7  # the first step has the loop's beginning in it
    assert spent.left(1, 100) is None
    _run(spent, clock, 1, 11, 2.0)
    assert spent.left(11, 111) == pytest.approx(200)
    with spent.spend("evaluate"):
        clock.now += 27  # as long again as all steps so far
    assert spent.left(11, 111) == pytest.approx(400)


def test_the_time_left_is_known_right_after_a_restart_and_follows_new_machines(tmp_path):
    clock = Clock()
    before = TimeSpent(tmp_path, keep=True, clock=clock)
    clock.now += 500 * 2.0
    before.save()
    clock.now += 10**6  # it did not run
    spent = TimeSpent(tmp_path, keep=True, step=500, clock=clock)
    assert spent.left(500, 1000) == pytest.approx(1000)
    with spent.spend("compile"):
        clock.now += 300
    assert spent.left(500, 1000) == pytest.approx(1000)
    clock.now += 1.0
    spent.left(501, 1000)
    _run(spent, clock, 501, 601, 1.0)
    assert spent.left(601, 1001) == pytest.approx(400 * 1.5)  # half of what it knows is new
    _run(spent, clock, 601, 901, 1.0)
    assert spent.left(901, 1001) == pytest.approx(100 * 1.2)


def test_a_run_says_where_its_time_went(tmp_path, capsys):
    train(toy.experiment(duration="6"), tmp_path, loader=toy.ToyLoader())
    train(toy.experiment(duration="12"), tmp_path, loader=toy.ToyLoader())
    printed = capsys.readouterr().err
    assert "over 1 start" in printed and "over 2 starts" in printed
    assert "compile" in printed and "train" in printed
    records = list(read_records(tmp_path / "metrics.jsonl"))
    assert len(records) == 12
    assert all(0 <= one["speed/goodput"] <= 1 for one in records)
    for one in records:
        shares = [value for name, value in one.items() if name.startswith("time/")]
        assert len(shares) == 5 and sum(shares) == pytest.approx(1)
    assert records[0]["time/compile"] > 0 and records[1]["time/compile"] == 0
    assert records[4]["time/checkpoint"] > 0  # step 4 was saved after its record
    # Known from the second step on, and at once where the run goes on.
    assert [one["step"] for one in records if "speed/eta_seconds" not in one] == [1]
    assert "step 6, about 0:00:0" in printed
