"""A teacher in the loop: the cosine of its momentum, its own statistics, resuming, what is used."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from kmm_jax.errors import ConfigError
from kmm_jax.training.loop import train
from kmm_jax.training.task import STATISTICS, Statistics
from kmm_jax.training.teacher import Teacher, decay
from tests.training import toy


class Taught(toy.Net):
    """The toy network with a running mean of what it puts out."""

    def __init__(self, width, *, rngs):
        super().__init__(width, rngs=rngs)
        self.seen = nnx.BatchStat(jax.numpy.zeros(()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaughtTask(toy.ToyTask):
    """Regression to the targets and, a little, to the teacher."""

    teacher: object = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def init(self, key):
        return Taught(self.width, rngs=nnx.Rngs(key))

    def taught_by(self, teacher):
        taught = dataclasses.replace(self)
        object.__setattr__(taught, "teacher", teacher)
        return taught

    def loss(self, module, batch, key, mesh):
        target = jax.lax.stop_gradient(self.teacher(batch["x"]))
        loss, metrics = super().loss(module, batch, key, mesh)
        told = jax.numpy.mean((module(batch["x"]) - target) ** 2)
        moved = {"seen": module.seen[...] + 1}, {"seen": self.teacher.seen[...] + 10}
        return loss + 0.1 * told, {**metrics, STATISTICS: Statistics(*moved)}


def experiment(**changes):
    return toy.experiment(task=TaughtTask(), **{"teacher": Teacher(momentum=0.5)} | changes)


def test_momentum_rises_from_its_beginning_to_its_end_by_half_a_cosine():
    schedule = decay(None, Teacher(momentum=0.99, final=1.0), 100)
    assert [round(float(schedule(step)), 6) for step in (0, 50, 100)] == [0.99, 0.995, 1.0]
    # MoCo v3: 1 - 0.5 (1 + cos(pi e / E)) (1 - m)
    expected = [1 - 0.5 * (1 + np.cos(np.pi * step / 100)) * 0.01 for step in range(101)]
    np.testing.assert_allclose([schedule(step) for step in range(101)], expected, rtol=1e-6)
    assert decay(None, None, 100) is None
    assert float(decay(0.9, None, 100)(7)) == pytest.approx(0.9)


def test_the_teacher_is_the_students_average_and_statistics_are_each_ones_own(tmp_path):
    result = train(experiment(duration="3"), tmp_path / "run", loader=toy.ToyLoader())
    state = result.state
    assert float(state.params["seen"]) == 3 and float(state.ema["seen"]) == 30
    distance = np.abs(state.params["up"]["kernel"] - state.ema["up"]["kernel"]).max()
    assert 0 < distance < 0.1


def test_after_an_interruption_it_goes_on_to_the_very_same_numbers(tmp_path):
    whole = train(experiment(), tmp_path / "whole", loader=toy.ToyLoader())
    train(experiment(), tmp_path / "run", loader=toy.ToyLoader(), stop_after=5)
    again = train(experiment(), tmp_path / "run", loader=toy.ToyLoader())
    for part in ("params", "ema"):
        pair = getattr(whole.state, part), getattr(again.state, part)
        jax.tree.map(np.testing.assert_array_equal, *pair)


def test_the_student_is_what_evaluators_see(tmp_path):
    evaluators = (toy.ToyEvaluator(),)
    kept = experiment(evaluators=evaluators, teacher=Teacher(momentum=1.0))
    result = train(kept, tmp_path / "run", loader=toy.ToyLoader())
    student = result.metrics["held_out/error"]
    batch = toy.rows(10**6, 24)
    first = nnx.merge(nnx.graphdef(Taught(32, rngs=nnx.Rngs(0))), result.state.ema)
    teacher = float(np.mean((np.asarray(first(batch["x"])) - batch["y"]) ** 2))
    assert student < 0.9 * teacher, "the teacher never learned"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": None}, "set teacher"),
        ({"ema": 0.9}, "an average already"),
    ],
)
def test_a_teacher_that_is_missing_or_too_many_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(experiment(**changes), tmp_path / "run", loader=toy.ToyLoader())


def test_a_task_without_a_teacher_takes_none(tmp_path):
    with pytest.raises(ConfigError, match="teacher=none"):
        train(toy.experiment(teacher=Teacher()), tmp_path / "run", loader=toy.ToyLoader())


def test_momenta_that_are_none_are_refused():
    for momentum, final in ((-0.1, 1.0), (0.9, 0.8), (0.9, 1.1)):
        with pytest.raises(ConfigError, match="momentum"):
            Teacher(momentum=momentum, final=final)
