"""Processes side by side; two real ones are in test_processes."""

import pytest

from kmm_jax.training import stragglers
from kmm_jax.training.progress import StepTime
from kmm_jax.training.stragglers import Stragglers, compare


def times(*host, step=1.0, data=0.0):
    return [StepTime(step=step, host=seconds, data=data) for seconds in host]


def test_the_slowest_is_beside_the_median():
    found = compare(times(0.1, 0.2, 0.2, 0.9, 0.2))
    assert found.values["speed/slowest_process"] == 3
    assert found.values["speed/slowest_ratio"] == pytest.approx(4.5)
    assert found.by_process["speed/host_seconds"] == [0.1, 0.2, 0.2, 0.9, 0.2]


def test_the_slowest_by_the_wait_for_data_may_be_another():
    several = [StepTime(step=1, host=0.9, data=0.1), StepTime(step=1, host=0.5, data=0.4)]
    values = compare(several).values
    assert (values["speed/slowest_process"], values["speed/slowest_data_process"]) == (0, 1)
    assert values["speed/slowest_data_ratio"] == pytest.approx(4.0)


def test_of_two_processes_the_faster_is_the_measure():
    assert compare(times(0.9, 0.1)).values["speed/slowest_ratio"] == pytest.approx(9.0)


def test_next_to_nothing_has_no_ratio():
    assert compare(times(1e-5, 0.0, 0.0)).values["speed/slowest_ratio"] == 1.0


def said(*records):
    told = []
    judge = Stragglers(lambda: StepTime(step=0, host=0, data=0), told.append)
    for record in records:
        judge._judge(record)
    return told


def test_one_that_stays_slow_is_said_once():
    slow = times(0.1, 0.1, 0.95, 0.1)
    assert said(*[slow] * 4) == []
    (text,) = said(*[slow] * 20, times(0.1, 0.1, 0.1, 0.1), *[slow] * 20)
    assert text.startswith("process 2 holds the others up") and "busy 0.95 s" in text


def test_one_slow_record_or_a_slow_one_that_nobody_waits_for_is_not_said():
    slow, even = times(0.1, 0.1, 0.95), times(0.9, 0.9, 0.95)
    assert said(*[slow, slow, slow, slow, even] * 4) == []
    assert said(*[times(0.1, 0.1, 0.5)] * 20) == []  # half its time it waits for the devices
    other = times(0.95, 0.1, 0.1)
    assert said(*[slow, other] * 10) == []


def test_a_single_process_has_nothing_to_compare():
    def never():
        raise AssertionError

    alone = Stragglers(never, never)
    alone.send()
    assert alone.read() is None


def test_gathering_keeps_the_order_of_the_processes(monkeypatch):
    rows = iter([[[0.5, 0.25, 0.0], [0.5, 0.4, 0.3]]])

    class Gathered:
        def addressable_data(self, index):
            return next(rows)

    monkeypatch.setattr(stragglers.jax, "process_count", lambda: 2)
    monkeypatch.setattr(stragglers, "_gather", lambda numbers: Gathered())
    several = Stragglers(lambda: StepTime(step=0.5, host=0.25, data=0.0), print)
    several.send()
    found = several.read()
    assert found.by_process == {"speed/host_seconds": [0.25, 0.4], "speed/data_seconds": [0.0, 0.3]}
