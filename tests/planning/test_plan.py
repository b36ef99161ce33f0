"""Plans of a small model, against what its parts must come to and what XLA says."""

import dataclasses
import functools
import json

import jax
import pytest

from kmm_jax.cli import main
from kmm_jax.errors import ConfigError
from kmm_jax.planning import report
from kmm_jax.planning.fit import Fitter
from kmm_jax.planning.plan import plan
from kmm_jax.planning.roofline import bandwidth
from kmm_jax.planning.step import per_example_memory
from kmm_jax.training import setup as setups
from kmm_jax.training import sharding
from kmm_jax.training.chips import CHIPS, chip_named
from kmm_jax.training.lora import LoRA
from kmm_jax.training.sharding import MeshConfig
from tests.planning.conftest import LENGTH, tiny_experiment

H100 = CHIPS["h100"]


@functools.cache
def over(fsdp=1, tensor=1, chip=H100, **changes):
    mesh = MeshConfig(data=-1, fsdp=fsdp, tensor=tensor, fsdp_min_size=256)
    return plan(tiny_experiment(mesh=mesh, **changes), chip, 8)


@pytest.fixture(scope="module")
def split():
    return over(fsdp=4)


@pytest.mark.parametrize("family", ["clip", pytest.param("coca", marks=pytest.mark.slow)])
def test_weights_are_gathered_twice_and_their_gradients_scattered_once(family):
    made = over(fsdp=4, family=family)
    matrices = bytes_of_stacked_matrices(family)
    gathered, scattered = (made.sent[kind, "fsdp"] for kind in ("all-gather", "reduce-scatter"))
    # What is not in the stacks (embeddings, poolers) is gathered as well, once, in float32.
    assert 2 * matrices * 3 / 4 < gathered < 2 * matrices * 3 / 4 * 1.5
    assert matrices * 3 / 4 < scattered < matrices * 3 / 4 * 1.5
    assert made.sent["all-reduce", "data"] > 0


def bytes_of_stacked_matrices(family):
    """Of the layers' matrices in bfloat16."""
    experiment = tiny_experiment(family=family)
    mesh = sharding.abstract_mesh(experiment.mesh, 8)
    made = setups.prepare(experiment, mesh, examples_per_epoch=1, vocabulary=None)
    return 2 * sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(made.abstract.params)
        if "layers" in jax.tree_util.keystr(path) and leaf.ndim == 3
    )


def test_no_activation_crosses_the_network_along_fsdp(split):
    twice = over(fsdp=4, global_batch_size=128)
    for key in (("all-gather", "fsdp"), ("reduce-scatter", "fsdp")):
        assert twice.sent[key] == pytest.approx(split.sent[key], rel=0.02)


def test_along_tensor_each_layer_sums_its_activations():
    tensor = over(tensor=2)
    rows, layers, width = 64 // 4, 2, 128
    one_sum = rows * LENGTH * width * 2  # a text's states in bfloat16
    # Attention and FFN, forward and backward, and attention once more: five a layer at the least.
    assert tensor.sent["all-reduce", "tensor"] > layers * 5 * one_sum
    assert not any(axes == "fsdp" for _, axes in tensor.sent)


def test_shares_shrink_with_fsdp_and_an_example_needs_the_same(split):
    whole = over(fsdp=1)
    for name in ("parameters", "optimizer", "gradients"):
        assert getattr(split.memory, name) < 0.5 * getattr(whole.memory, name), name
    twice = over(fsdp=4, global_batch_size=128)
    assert twice.activations_per_example == pytest.approx(split.activations_per_example, rel=0.1)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_activations_are_near_what_xla_finds(remat):
    # In float32, with attention as a CPU does it, and so large that activations decide.
    chip = dataclasses.replace(H100, flash_attention=False)
    made = over(chip=chip, remat=remat, dtype="float32", global_batch_size=4096)
    counted = made.memory.activations + made.memory.gradients
    assert 0.5 * made.compiled.temporary < counted < 2 * made.compiled.temporary


def test_recomputed_operations_are_executed_and_not_counted_for_mfu():
    kept, made_again = over(remat="none"), over(remat="full")
    assert kept.model_flops == made_again.model_flops
    assert made_again.executed_flops > 1.1 * kept.executed_flops
    assert made_again.memory.activations < kept.memory.activations


@pytest.mark.slow
def test_accumulation_holds_a_part_and_runs_the_forward_pass_twice():
    whole, parts = over(), over(accumulate=4)
    assert parts.memory.activations < 0.6 * whole.memory.activations
    assert 1.2 * whole.executed_flops < parts.executed_flops < 1.5 * whole.executed_flops


@pytest.mark.parametrize("kind", ["frozen", pytest.param("lora", marks=pytest.mark.slow)])
def test_what_is_frozen_needs_no_moments_no_gradients_and_less_work(kind):
    given = {"freeze": "image/.*"} if kind == "frozen" else {"lora": LoRA(rank=2)}
    whole, part = over(family="clip"), over(family="clip", **given)
    for name in ("optimizer", "gradients"):
        assert getattr(part.memory, name) < 0.7 * getattr(whole.memory, name), name
    if kind == "frozen":
        assert part.executed_flops < 0.9 * whole.executed_flops


def test_a_frozen_tower_keeps_no_activations():
    whole, part = (
        per_example_memory(tiny_experiment(remat="none", freeze=freeze), flash_attention=True)
        for freeze in (None, "image/.*")
    )
    assert part < 0.85 * whole


def test_the_least_splitting_that_fits_grows_as_memory_shrinks(split):
    def fitter(memory):
        chip = dataclasses.replace(H100, memory=memory)
        return Fitter.of(tiny_experiment(), chip, split.activations_per_example)

    roomy = fitter(80e9)
    assert roomy.least_splitting(8).mesh == {"data": 8, "fsdp": 1, "tensor": 1}
    assert roomy.fewest_chips().chips == 1
    tight = fitter(split.memory.total / 0.9 * 1.01)
    assert tight.least_splitting(8).mesh["fsdp"] > 1
    assert tight.fewest_chips().chips > 1
    assert fitter(1e3).least_splitting(8) is None


def test_groups_within_an_island_have_its_links_and_others_share_the_cards():
    mesh = {"data": 4, "fsdp": 8, "tensor": 1}
    assert bandwidth("fsdp", mesh, H100) == 450e9
    assert bandwidth("data", mesh, H100) == 50e9  # one member a node
    assert bandwidth("data+fsdp", mesh, H100) == 400e9  # eight a node
    wide = {"data": 2, "fsdp": 16, "tensor": 1}
    assert bandwidth("fsdp", wide, H100) == 400e9
    assert bandwidth("data", {"data": 8, "fsdp": 1, "tensor": 1}, H100) == 450e9
    assert bandwidth("data", mesh, CHIPS["v5e"]) == CHIPS["v5e"].link_bandwidth


def test_groups_that_straddle_nodes_share_the_cards():
    assert bandwidth("fsdp", {"data": 4, "fsdp": 6, "tensor": 1}, H100) == 100e9
    assert bandwidth("tensor", {"data": 4, "fsdp": 4, "tensor": 4}, H100) == 450e9


def test_a_number_of_chips_that_is_no_power_of_two_is_fitted(split):
    chip = dataclasses.replace(H100, memory=split.memory.total * 1.3)
    experiment = tiny_experiment(global_batch_size=96)
    found = Fitter.of(experiment, chip, split.activations_per_example).least_splitting(12)
    assert found is not None and found.mesh["fsdp"] in (2, 3, 4, 6, 12)


def test_neither_trackers_nor_evaluation_data_are_needed_to_plan():
    class Absent:
        name, every = "absent", "100%"

        def check(self):
            raise ConfigError("not here")

    experiment = tiny_experiment(evaluators=(Absent(),))
    assert Fitter.of(experiment, H100, 1e6).fewest_chips() is not None


def test_a_plan_is_printed_whole_and_as_json(split):
    text = report.as_text(split, None, None)
    assert "tiny on 8 x h100: data=2 x fsdp=4 x tensor=1" in text
    assert "all-gather along fsdp" in text and "MFU at most" in text
    values = json.loads(json.dumps(report.as_json(split, None, None)))
    assert values["memory"]["total"] == split.memory.total
    assert 0 < values["mfu_ceiling"] < 1


def test_the_command_plans_a_config_of_the_repository(capsys):
    words = ["plan", "clip/shop", "duration=100 steps", "--chips", "4", "--chip", "v5e"]
    assert main([*words, "--mesh", "fsdp=2"]) == 0
    shown = capsys.readouterr().out
    assert "data=2 x fsdp=2 x tensor=1" in shown and "Fewest v5e" in shown


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--chips", "8", "--chip", "h1000"], "h100"),
        (["--chips", "0", "--chip", "h100"], "--chips"),
        (["--chips", "8", "--chip", "h100", "--mesh", "fdsp=2"], "fsdp"),
        (["--chips", "8", "--chip", "h100", "--mesh", "fsdp=x"], "fsdp=x"),
        (["--chips", "8", "--chip", "h100", "--mesh", "fsdp=3"], "fsdp=3"),
    ],
)
def test_what_is_wrong_in_the_question_is_named(words, named, capsys):
    assert main(["plan", "clip/shop", "duration=100 steps", *words]) == 2
    assert named in capsys.readouterr().err


def test_a_plan_in_epochs_asks_for_the_data_or_for_steps(capsys):
    assert main(["plan", "clip/shop", "--chips", "8", "--chip", "h100"]) == 2
    assert "duration='100000 steps'" in capsys.readouterr().err


def test_every_chip_says_where_its_figures_are_from():
    for chip in CHIPS.values():
        assert chip.source and chip.memory_bandwidth > chip.link_bandwidth > chip.network_bandwidth
    with pytest.raises(ConfigError, match="h200"):
        chip_named("h20")
