import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from kmm_jax.errors import ConfigError
from kmm_jax.training import optimizer, setup
from kmm_jax.training.duration import Scale
from kmm_jax.training.sharding import MeshConfig, make_mesh, param_specs, state_shardings
from kmm_jax.training.state import TrainState, create
from tests.training import toy

P = PartitionSpec
SCALE = Scale(global_batch_size=16, examples_per_epoch=16, total_steps=10)
PARAMS = {
    "a": {"kernel": jax.ShapeDtypeStruct((128, 256), jnp.float32)},
    "layers": {"kernel": jax.ShapeDtypeStruct((3, 256, 384), jnp.float32)},
    "norm": {"scale": jax.ShapeDtypeStruct((6,), jnp.float32)},
}


def test_the_free_axis_takes_what_is_left():
    assert dict(make_mesh(MeshConfig(fsdp=2)).shape) == {"data": 4, "fsdp": 2, "tensor": 1}
    assert make_mesh(MeshConfig(data=2)).size == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(fsdp=3), "8 devices do not divide by 3"),
        (MeshConfig(data=4, fsdp=4), "needs 16 devices, there are 8"),
        (MeshConfig(fsdp=-1), "at most one"),
        (MeshConfig(tensor=0), "at least 1"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(config)


def test_the_first_rule_that_is_the_whole_path_counts():
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    rules = [("layers/kernel", P(None, "tensor", "fsdp")), (".*", "fsdp")]
    specs = param_specs(PARAMS, rules, mesh)
    assert specs["layers"]["kernel"] == P(None, "tensor", "fsdp")
    assert specs["a"]["kernel"] == P(None, "fsdp")  # the largest dimension
    assert specs["norm"]["scale"] == P()  # 6 does not divide by 4
    assert param_specs(PARAMS, [("a/.*", "fsdp")], mesh)["layers"]["kernel"] == P()


def test_small_parameters_are_not_split():
    mesh = make_mesh(MeshConfig(fsdp=8))
    specs = param_specs(PARAMS, [(".*", "fsdp")], mesh, fsdp_min_size=128 * 256 + 1)
    assert specs["a"]["kernel"] == P()
    assert specs["layers"]["kernel"] == P(None, None, "fsdp")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("a/kernle", P()), "names no parameter; did you mean 'a/kernel'"),
        (("(", P()), "no regex"),
        (("norm/scale", P("fsdp")), r"norm/scale has shape \(6,\); dimension 0 does not divide"),
        (("norm/scale", P(None, "fsdp")), "fewer dimensions"),
        (("a/kernel", P("fsp")), "no axis 'fsp'; did you mean 'fsdp'"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(rule, message):
    with pytest.raises(ConfigError, match=message):
        param_specs(PARAMS, [rule], make_mesh(MeshConfig(fsdp=8)))


def _state(config, mesh):
    transformation = optimizer.build(config, SCALE)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), PARAMS)
    specs = param_specs(params, [(".*", "fsdp")], mesh)

    def start():
        return TrainState(
            step=jnp.int32(0), params=params, opt_state=transformation.init(params), ema=None
        )

    shardings = state_shardings(jax.eval_shape(start), specs, transformation, mesh)
    return jax.jit(start, out_shardings=shardings)(), transformation, shardings


def test_adam_moments_lie_as_their_parameters():
    state, _, _ = _state(optimizer.AdamW(), make_mesh(MeshConfig(fsdp=8)))
    (adam,) = [part for part in state.opt_state if hasattr(part, "mu")]
    for moments in (adam.mu, adam.nu):
        assert moments["layers"]["kernel"].sharding.spec == P(None, None, "fsdp")
        assert moments["a"]["kernel"].addressable_shards[0].data.shape == (128, 32)
    assert adam.count.sharding.is_fully_replicated


def test_the_first_moment_may_be_bfloat16():
    config = optimizer.AdamW(first_moment_dtype="bfloat16")
    state, _, _ = _state(config, make_mesh(MeshConfig()))
    (adam,) = [part for part in state.opt_state if hasattr(part, "mu")]
    assert adam.mu["a"]["kernel"].dtype == jnp.bfloat16
    assert adam.nu["a"]["kernel"].dtype == jnp.float32


def test_adafactor_sums_lie_as_what_is_left_of_their_parameters():
    mesh = make_mesh(MeshConfig(fsdp=8))
    state, transformation, shardings = _state(optimizer.Adafactor(), mesh)
    factored, _, momentum = state.opt_state[1]
    # The sum over the longer (split) dimension is whole, that over the shorter stays split.
    by_shape = {leaf.shape: leaf.sharding.spec for leaf in jax.tree.leaves(factored)}
    assert by_shape[(128,)] == P(None)
    assert by_shape[(256,)] == P("fsdp")
    assert by_shape[(3, 384)] == P(None, "fsdp")
    assert momentum.ema["a"]["kernel"].sharding.spec == P(None, "fsdp")

    step = jax.jit(
        lambda s: transformation.update(s.params, s.opt_state, s.params)[1],
        out_shardings=shardings.opt_state,
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(step(state)))


def test_a_state_is_born_in_its_place_and_equal_on_any_mesh():
    task, transformation = toy.ToyTask(), optax.adam(1e-3)
    values = []
    for config in (MeshConfig(data=1), MeshConfig(data=2, fsdp=2, tensor=2)):
        mesh = make_mesh(config)

        def start():
            return create(task, transformation, 0, averaged=True)

        shapes = jax.eval_shape(start)
        specs = param_specs(shapes.params, task.sharding_rules, mesh)
        shardings = state_shardings(shapes, specs, transformation, mesh)
        state = jax.jit(start, out_shardings=shardings)()
        assert state.params["up"]["kernel"].sharding == NamedSharding(mesh, P("fsdp", "tensor"))
        assert state.ema["up"]["kernel"].sharding == state.params["up"]["kernel"].sharding
        values.append(jax.device_get(state))
    jax.tree.map(np.testing.assert_array_equal, *values)


def test_the_batch_must_divide_over_mesh_and_parts():
    with pytest.raises(ConfigError, match="multiple of 16, such as 32"):
        setup.prepare_mesh(toy.experiment(global_batch_size=20, accumulate=2, mesh=MeshConfig()))
    setup.prepare_mesh(toy.experiment(global_batch_size=32, accumulate=2, mesh=MeshConfig()))


def test_rules_for_layers_must_hold_whatever_stack_they_are_in():
    params = {
        "text": {"blocks": {"layers": {"up": {"kernel": jax.ShapeDtypeStruct((2, 8, 8), "f4")}}}}
    }
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    with pytest.raises(ConfigError, match=r"must begin with \.\*layers/"):
        param_specs(params, ((r"text/blocks/layers/.*", PartitionSpec(None, "fsdp")),), mesh)
    param_specs(params, ((r".*layers/.*", PartitionSpec(None, "fsdp")),), mesh)
