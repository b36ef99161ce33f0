"""Overrides, dumps and config files."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Literal

import pytest
from jax.sharding import PartitionSpec

from kmm_jax.errors import ConfigError
from kmm_jax.training import dump, run_directory
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import Adafactor, AdamW
from kmm_jax.training.overrides import apply
from tests.training import toy

CONFIG = """
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.coca.config import coca_tiny
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.experiment import Experiment


def experiment():
    return Experiment(
        name="가게",
        task=CoCaTask(model=coca_tiny()),
        data=DataConfig(sources=(SourceConfig(url="shop"),), image_size=64, text_length=32),
        global_batch_size=64,
        duration="3 epochs",
    )
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    pair: tuple[float, float] = (0.9, 0.95)
    names: tuple[str, ...] = ("ㄱ",)
    kind: Literal["a", "b"] = "a"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = (Inner(), Inner())
    count: int = 3
    rate: float | None = None
    on: bool = False
    size: int | str = 1
    lists: tuple[Path, ...] = ()

    def __post_init__(self):
        if self.count < 0:
            raise ValueError("count must not be negative")


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("count=7", lambda o: o.count == 7),
        ("count=1e3", lambda o: o.count == 1000 and isinstance(o.count, int)),
        ("rate=3e-4", lambda o: math.isclose(o.rate, 3e-4)),
        ("rate=none", lambda o: o.rate is None),
        ("on=true", lambda o: o.on is True),
        ("size=12", lambda o: o.size == 12),
        ("size=large", lambda o: o.size == "large"),
        ("inner.pair=0.5,0.6", lambda o: o.inner.pair == (0.5, 0.6)),
        ("inner.pair=(1, 2)", lambda o: o.inner.pair == (1.0, 2.0)),
        ("inner.names=빨강,파랑", lambda o: o.inner.names == ("빨강", "파랑")),
        ("inner.names=()", lambda o: o.inner.names == ()),
        ("lists=a/b.txt,c.txt", lambda o: o.lists == (Path("a/b.txt"), Path("c.txt"))),
        ("inner.kind=b", lambda o: o.inner.kind == "b"),
        ("inner.pair.1=0.7", lambda o: o.inner.pair == (0.9, 0.7)),
        ("parts.1.kind=b", lambda o: [p.kind for p in o.parts] == ["a", "b"]),
    ],
)
def test_a_value_takes_the_declared_type(override, read):
    assert read(apply(Outer(), [override]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cuont=7", "did you mean 'count'"),
        ("inner.kidn=b", "inner has no 'kidn'; did you mean 'kind'"),
        ("inner.kind=c", "one of 'a', 'b'"),
        ("count=many", "'many' is no int"),
        ("count=1.5", "'1.5' is no int"),
        ("rate=fast", "no float or none"),
        ("on=perhaps", "no bool"),
        ("inner.pair=1,2,3", "no tuple"),
        ("parts.2.kind=b", "positions: 0 to 1"),
        ("count.x=1", "has no parts"),
        ("count", "path=value"),
        ("=3", "path=value"),
        ("count=-1", "must not be negative"),
    ],
)
def test_a_wrong_override_is_refused_with_what_is_valid(override, message):
    with pytest.raises(ConfigError, match=message):
        apply(Outer(), [override])


def test_overrides_reach_every_part_of_an_experiment():
    changed = apply(
        toy.experiment(),
        [
            "optimizer.learning_rate=3e-4",
            "data.sources.0.weight=2",
            "duration=3 epochs",
            "task.width=8",
            "mesh.fsdp=2",
            "ema=0.99",
        ],
    )
    assert changed.optimizer.learning_rate == 3e-4
    assert changed.data.sources[0].weight == 2.0
    assert (changed.duration, changed.task.width, changed.mesh.fsdp) == ("3 epochs", 8, 2)
    assert changed.ema == 0.99
    assert apply(changed, ["ema=none"]).ema is None


def test_an_optimizer_is_chosen_by_name():
    changed = apply(toy.experiment(), ["optimizer=adafactor", "optimizer.momentum=none"])
    assert changed.optimizer == Adafactor(momentum=None)


def test_a_learning_rate_of_zero_is_refused_wherever_it_comes_from():
    with pytest.raises(ConfigError, match="above 0"):
        apply(toy.experiment(), ["optimizer.learning_rate=0"])


def test_the_dump_has_a_line_a_leaf_and_shows_a_change_as_one_line():
    before = dump.dump(toy.experiment()).splitlines()
    after = dump.dump(apply(toy.experiment(), ["optimizer.b2=0.5"])).splitlines()
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [
        ("optimizer.b2 = 0.98", "optimizer.b2 = 0.5")
    ]
    assert "task.sharding_rules.0.1 = \"PartitionSpec('fsdp', 'tensor')\"" in before


def test_an_experiment_survives_json(tmp_path):
    (tmp_path / "shop.py").write_text(CONFIG)
    experiment = load_experiment(tmp_path / "shop.py", ["optimizer=Adafactor"])
    again = dump.from_json(json.loads(json.dumps(dump.to_json(experiment))))
    assert again == experiment
    assert isinstance(again.task.sharding_rules[0][1], PartitionSpec)


def test_a_field_that_came_since_a_run_began_is_no_difference():
    now = dump.to_json(load_experiment("coca/shop"))
    before = json.loads(json.dumps(now))
    del before["stall_seconds"], before["task"]["model"]["vision"]["stem"]
    filled = run_directory.with_defaults(before)
    assert filled["stall_seconds"] == now["stall_seconds"]
    assert filled["task"]["model"]["vision"]["stem"] == "linear"
    gone = {**now, "no_such_field": 1}
    assert run_directory.with_defaults(gone) == gone


def test_json_builds_nothing_from_outside_the_library():
    for name in ("subprocess:Popen", "tests.training.toy:ToyTask", "kmm_jax.files:write_json"):
        with pytest.raises(ConfigError, match="no configuration of kmm_jax"):
            dump.from_json({"type": name, "args": "true"})


def test_json_of_another_version_names_the_type():
    values = dump.to_json(AdamW()) | {"momentun": 1}
    with pytest.raises(ConfigError, match=r"AdamW cannot be rebuilt: .*momentun"):
        dump.from_json(values)


def test_what_is_no_data_is_named():
    with pytest.raises(ConfigError, match=r"task\.width is a function"):
        dump.to_json(toy.experiment(task=toy.ToyTask(width=lambda: 1)))


def test_a_config_is_found_by_name_under_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "coca"
    folder.mkdir(parents=True)
    (folder / "shop.py").write_text(CONFIG)
    for name in ("coca/shop", "configs/coca/shop.py", "configs/coca/shop"):
        assert load_experiment(name).name == "가게"
    with pytest.raises(ConfigError, match="did you mean 'coca/shop'"):
        load_experiment("coca/shopp")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def experiment(:", "line 1"),
        ("x = 1", "no function experiment"),
        ("def experiment():\n    return 3", "returned int"),
        ("def experiment():\n    x = 1\n    return x.y", "line 3: AttributeError"),
        ("import no_such_module_here", "ModuleNotFoundError"),
    ],
)
def test_a_broken_config_file_names_the_line(tmp_path, text, message):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_experiment(tmp_path / "broken.py")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": "5%"}, "whole run"),
        ({"global_batch_size": 0}, "at least 1"),
        ({"ema": 1.0}, "between 0 and 1"),
        ({"log_every": "often"}, "no duration"),
        ({"evaluators": (toy.ToyEvaluator(), toy.ToyEvaluator())}, "same name"),
    ],
)
def test_an_experiment_that_cannot_work_is_refused_when_made(changes, message):
    with pytest.raises(ConfigError, match=message):
        toy.experiment(**changes)


def test_experiments_are_values():
    assert toy.experiment() == toy.experiment()
    assert isinstance(hash(toy.experiment()), int)
    assert dataclasses.is_dataclass(Experiment)
