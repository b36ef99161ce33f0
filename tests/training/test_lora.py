"""Factors of low rank against whole matrices: sums, gradients, runs, and what is loaded of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import kmm_jax
from kmm_jax.cli import main
from kmm_jax.errors import ConfigError
from kmm_jax.inference.loading import read
from kmm_jax.interop import native
from kmm_jax.interop.conversion import export_weights, import_weights
from kmm_jax.training.accumulation import gradients
from kmm_jax.training.loop import train
from kmm_jax.training.lora import LORA, LoRA, merged, merged_for_use, with_factors
from kmm_jax.training.metrics import read_records
from kmm_jax.training.optimizer import AdamW, build
from kmm_jax.training.parameter_names import named, overlaid
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from kmm_jax.training.trained import trained
from tests import tiny_shop
from tests.inference.test_initial_weights import CONFIG as FINETUNE
from tests.inference.test_initial_weights import foreign
from tests.training import toy
from tests.training.test_accumulation import batch
from tests.training.test_freeze import equal, fresh, tiny_clip
from tests.training.test_layer_decay import SCALE

CLIP = LoRA(rank=2, alpha=6.0, targets=r"((vision|text)/.*(query|value)|image_projection)/kernel")
TOY = LoRA(rank=3, alpha=6.0, targets="up/kernel", also="down/bias")


def noisy(tree, deviation):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: np.asarray(x + deviation * rng.normal(size=x.shape), np.float32), tree
    )


def run(folder, *, stop_after=None, **changes):
    experiment = toy.experiment(**{"lora": TOY} | changes)
    return train(
        experiment, folder, loader=toy.ToyLoader(), initial=toy.Given(), stop_after=stop_after
    )


@pytest.fixture(scope="module")
def params():
    """Those of a CLIP with its factors, none of them zero."""
    whole = with_factors(noisy(fresh(tiny_clip()), 0.02), CLIP, jax.random.key(1))
    return jax.tree.map(jnp.asarray, {**whole, LORA: noisy(whole[LORA], 0.05)})


def test_at_first_the_sums_are_the_matrices_themselves():
    base = noisy(fresh(tiny_clip()), 0.02)
    whole = with_factors(base, CLIP, jax.random.key(1))
    equal(merged(whole, CLIP), base)
    equal(merged_for_use(whole, CLIP), base)
    a = named(whole[LORA])["vision/blocks/layers/attention/query/kernel/a"]
    assert a.shape == (1, 128, 2) and 0.9 * 128**-0.5 < abs(a).max() <= 128**-0.5


def test_the_sums_are_each_layers_matrix_and_the_product_of_its_pair(params):
    base = {name: leaf for name, leaf in params.items() if name != LORA}
    factors = named(params[LORA])
    for made, tolerance in ((merged(params, CLIP), 1e-5), (merged_for_use(params, CLIP), 1e-6)):
        sums = named(made)
        for name, weight in named(base).items():
            if f"{name}/a" not in factors:
                np.testing.assert_array_equal(sums[name], weight)
                continue
            pairs = np.float64(factors[f"{name}/a"]), np.float64(factors[f"{name}/b"])
            a, b, w = (x if x.ndim == 3 else x[None] for x in (*pairs, np.float64(weight)))
            expected = np.stack([w[i] + 3.0 * a[i] @ b[i] for i in range(len(w))])
            found = np.asarray(sums[name]).reshape(expected.shape)
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    assert {name.rpartition("/")[0] for name in factors} >= {
        "vision/blocks/layers/attention/query/kernel", "image_projection/kernel",
    }  # fmt: skip
    assert not any("key" in name for name in factors)


@pytest.mark.parametrize(
    ("parts", "mesh"), [(1, MeshConfig(data=1)), (2, MeshConfig(data=2, fsdp=2, tensor=2))]
)
def test_gradients_are_those_of_the_whole_matrices_projected(params, parts, mesh):
    """dA = s dW B^T and dB = s A^T dW, where dW is the gradient of a model of the sums."""
    task = tiny_clip()
    of_all = gradients(task, graph_of(task), make_mesh(MeshConfig(data=1)), parts=1)
    sums = merged(params, CLIP)
    whole = named(jax.jit(of_all)(sums, None, batch(), jax.random.key(1))[2])
    part = trained({n: x for n, x in params.items() if n != LORA}, freeze=None, lora=CLIP)

    def model(some):
        return part.model(overlaid(params, some))

    of_part = gradients(task, graph_of(task), make_mesh(mesh), parts=parts, model=model)
    found = jax.jit(of_part)(part.part(params), None, batch(), jax.random.key(1))[2]
    assert set(found) == {LORA}
    factors, found = named(params[LORA]), named(found[LORA])
    assert found.keys() == factors.keys()
    for name in {name.rpartition("/")[0] for name in factors}:
        a, b, g = factors[f"{name}/a"], factors[f"{name}/b"], whole[name]
        for side, expected in (
            ("a", 3 * g @ np.swapaxes(b, -1, -2)),
            ("b", 3 * np.swapaxes(a, -1, -2) @ g),
        ):
            scale = float(abs(expected).max())
            np.testing.assert_allclose(
                found[f"{name}/{side}"] / scale, expected / scale, atol=2e-4, err_msg=name
            )


def test_a_run_trains_factors_alone_and_what_is_named_besides(tmp_path):
    faster = AdamW(learning_rate=0.03, warmup="0")
    state = run(tmp_path, duration="40", optimizer=faster).state
    given = toy.Given().params(None)
    before, after = named(given), named(jax.device_get(state.params))
    assert {name for name in before if (after[name] != before[name]).any()} == {"down/bias"}
    assert abs(after["lora/up/kernel/b"]).max() > 0
    (adam,) = [part for part in state.opt_state if hasattr(part, "mu")]
    assert named(adam.mu).keys() == {"down/bias", "lora/up/kernel/a", "lora/up/kernel/b"}
    losses = [record["loss"] for record in read_records(tmp_path / "metrics.jsonl")]
    net = nnx.merge(graph_of(toy.ToyTask()), given)
    rows = toy.rows(0, 16)
    np.testing.assert_allclose(losses[0], np.mean((net(rows["x"]) - rows["y"]) ** 2), rtol=1e-5)
    rows = toy.rows(10**6, 500)

    def error(params):
        net = nnx.merge(graph_of(toy.ToyTask()), params)
        return float(jnp.mean((net(rows["x"]) - rows["y"]) ** 2))

    assert error(merged(jax.device_get(state.params), TOY)) < 0.8 * error(given)


def test_evaluators_and_the_average_see_the_sums(tmp_path):
    result = run(tmp_path, ema=0.5, evaluators=(toy.ToyEvaluator(),))
    average = merged(jax.device_get(result.state.ema), TOY)
    rows = toy.rows(10**6, 24)
    net = nnx.merge(graph_of(toy.ToyTask()), average)
    error = float(np.mean((np.asarray(net(rows["x"])) - rows["y"]) ** 2))
    assert result.metrics["held_out/error"] == pytest.approx(error, rel=1e-4)


def test_after_an_interruption_and_over_eight_devices_it_ends_the_same(tmp_path):
    changes = {"ema": 0.9, "accumulate": 2, "duration": "8"}
    whole = run(tmp_path / "whole", **changes).state
    run(tmp_path / "run", stop_after=5, **changes)
    again = train(
        toy.experiment(lora=TOY, **changes), tmp_path / "run", loader=toy.ToyLoader()
    ).state
    for name in ("params", "ema", "opt_state"):
        equal(getattr(whole, name), getattr(again, name))
    mesh = MeshConfig(data=2, fsdp=2, tensor=2, fsdp_min_size=1)
    split = run(tmp_path / "split", mesh=mesh, **changes).state
    for name, value in named(jax.device_get(split.params)).items():
        np.testing.assert_allclose(value, named(whole.params)[name], atol=1e-5, err_msg=name)
    # The matrix's inputs lie over fsdp, its outputs over tensor: so do the factors'.
    a, b = (split.params[LORA]["up"]["kernel"][name] for name in ("a", "b"))
    assert a.sharding.spec == PartitionSpec("fsdp", None)
    assert b.sharding.spec == PartitionSpec(None, "tensor")
    with pytest.raises(ConfigError, match=r"lora\.rank: 3 -> 2"):
        run(tmp_path / "run", **changes | {"lora": dataclasses.replace(TOY, rank=2)})


def test_factors_of_a_lower_layer_learn_slower(params):
    config = AdamW(learning_rate=0.1, warmup="0", layer_decay=0.5, weight_decay=0, clip_norm=None)
    part = trained({n: x for n, x in params.items() if n != LORA}, freeze=None, lora=CLIP)
    made = build(config, SCALE, params)
    some = part.part(params)
    changes, _ = made.update(jax.tree.map(jnp.ones_like, some), made.init(some), some)
    found = named(changes)
    np.testing.assert_allclose(found["lora/image_projection/kernel/a"], -0.1, rtol=1e-4)
    np.testing.assert_allclose(
        found["lora/vision/blocks/layers/attention/query/kernel/b"], -0.05, rtol=1e-4
    )


@pytest.fixture
def finetuned(tmp_path):
    tiny_shop.write(tmp_path / "data")
    config = tmp_path / "finetune.py"
    config.write_text(FINETUNE.replace("DATA", str(tmp_path / "data")))
    export_weights(tmp_path / "hf", foreign(), "hf-clip")
    return [
        "train", str(config), "--run-dir", str(tmp_path / "run"), "lora=LoRA", "lora.rank=2",
        "optimizer.learning_rate=0.01", "duration=2 steps",
    ]  # fmt: skip


def test_what_is_loaded_and_exported_has_the_sums(finetuned, tmp_path, capsys):
    assert main([*finetuned, "--init", str(tmp_path / "hf"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    # 2 towers of 2 layers: query and value of 64 x 64, each with 64 x 2 and 2 x 64.
    assert f", of which {2 * 2 * 2 * (64 * 2 + 2 * 64):,} are trained" in told
    assert main([*finetuned, "--init", str(tmp_path / "hf")]) == 0
    trained_run = read(tmp_path / "run")
    base = native.flatten(import_weights(tmp_path / "hf")[0].params)
    found = native.flatten(trained_run.params)
    assert found.keys() == base.keys()
    moved = {name for name in base if not np.array_equal(found[name], base[name])}
    assert moved == {name for name in base if name.endswith(("query.kernel", "value.kernel"))}
    native.save(tmp_path / "export", trained_run)
    model = kmm_jax.load(tmp_path / "run")
    assert kmm_jax.load(tmp_path / "export").hash == model.hash == trained_run.hash
    export_weights(tmp_path / "again", trained_run, "hf-clip")
    back = native.flatten(import_weights(tmp_path / "again")[0].params)
    for name, value in back.items():
        np.testing.assert_allclose(value, found[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": "up/kernle"}, r"lora\.targets 'up/kernle' names no parameter; did you mean"),
        ({"targets": "up/bias"}, r"up/bias of shape \(32,\)"),
        ({"rank": 16}, "with more rows and columns"),
        ({"also": "side/.*"}, r"lora\.also"),
    ],
)
def test_targets_that_cannot_be_adapted_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, lora=dataclasses.replace(TOY, **changes))


def test_a_run_without_weights_to_adapt_or_with_two_rules_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--init WEIGHTS"):
        train(toy.experiment(lora=TOY), tmp_path, loader=toy.ToyLoader())
    with pytest.raises(ConfigError, match="set freeze=none"):
        toy.experiment(lora=TOY, freeze="up/.*")
    with pytest.raises(ConfigError, match="rank"):
        LoRA(rank=0)
