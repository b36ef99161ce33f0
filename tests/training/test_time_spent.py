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


def test_a_run_says_where_its_time_went(tmp_path, capsys):
    train(toy.experiment(duration="6"), tmp_path, loader=toy.ToyLoader())
    train(toy.experiment(duration="12"), tmp_path, loader=toy.ToyLoader())
    printed = capsys.readouterr().err
    assert "over 1 start" in printed and "over 2 starts" in printed
    assert "compile" in printed and "train" in printed
    shares = [one["speed/goodput"] for one in read_records(tmp_path / "metrics.jsonl")]
    assert len(shares) == 12
    assert all(0 <= share <= 1 for share in shares)
