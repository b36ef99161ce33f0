import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.training.duration import Scale, parse, resolve

SCALE = Scale(global_batch_size=32, examples_per_epoch=1000, total_steps=400)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1000", 1000),
        (1000, 1000),
        ("1000 steps", 1000),
        ("1 step", 1),
        ("1_000 steps", 1000),
        ("2k", 2000),
        ("1e3 steps", 1000),
        ("1 epoch", 32),  # 31.25: the last rows are not left out
        ("10 epochs", 313),
        ("0.5epochs", 16),
        ("2M examples", 62_500),
        ("33 examples", 2),
        ("5%", 20),
        ("0.1%", 0),
        ("0.125 %", 1),
        ("100 percent", 400),
        ("0 steps", 0),
    ],
)
def test_each_unit_comes_to_these_steps(text, steps):
    assert resolve(text, SCALE) == steps


def test_epochs_are_exact_where_floats_are_not():
    # 0.1 * 3 * 10 in binary floats is above 3.
    assert resolve("0.3 epochs", Scale(global_batch_size=1, examples_per_epoch=10)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "no duration"),
        ("-5 steps", "no duration"),
        ("", "no duration"),
        ("10 epoches", "did you mean 'epochs'"),
        ("1.5 steps", "whole number of steps"),
        ("120%", "more than 100%"),
    ],
)
def test_what_is_no_duration_is_said(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_a_share_needs_a_whole():
    with pytest.raises(ConfigError, match="share of the whole run"):
        resolve("5%", Scale(global_batch_size=1, examples_per_epoch=10))
