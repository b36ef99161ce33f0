"""Bytes on the network, read from compiled programs whose bytes are known beforehand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from kmm_jax.planning.collectives import Collective, collectives, sent_by
from kmm_jax.planning.step import partitioned_program
from kmm_jax.training.sharding import MeshConfig, make_mesh

MESH = {"data": 2, "fsdp": 2, "tensor": 2}


def over_mesh(function, *shapes, inputs, outputs):
    mesh = make_mesh(MeshConfig(**MESH))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    return collectives(partitioned_program(jax.jit(mapped).lower(*arguments))[0], MESH)


ALL = PartitionSpec(("data", "fsdp", "tensor"))


@pytest.mark.parametrize(
    "axes", [("data",), ("fsdp",), ("tensor",), ("data", "fsdp"), ("data", "tensor")]
)
def test_an_all_gather_sends_all_but_its_own_part_in_the_dtype_of_the_program(axes):
    found = over_mesh(
        lambda x: jax.lax.all_gather(x, axes, tiled=True),
        (64, 3),
        inputs=ALL,
        outputs=PartitionSpec(),
    )
    members = 2 ** len(axes)
    rows = 8 * members  # a device holds 8 of the 64
    assert [(c.kind, c.axes, c.members, c.size) for c in found] == [
        ("all-gather", "+".join(axes), members, rows * 3 * 2)
    ]
    (sent,) = sent_by(found).values()
    assert sent == pytest.approx((members - 1) * 8 * 3 * 2)


def test_what_a_scan_sends_counts_as_often_as_it_turns():
    def layers(x):
        def body(x, _):
            return jax.lax.psum(x * 2, "fsdp"), None

        return jax.lax.scan(body, x, length=5)[0]

    (found,) = over_mesh(layers, (64, 4), inputs=ALL, outputs=ALL)
    assert found == Collective(kind="all-reduce", axes="fsdp", members=2, size=8 * 4 * 2, times=5)
    assert found.sent == 5 * 64  # twice a half


def test_a_sum_of_which_each_keeps_its_part_counts_as_scattered():
    def scatter(x):
        whole = jax.lax.psum(x, ("data", "fsdp"))
        return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index("fsdp") * 4, 4)

    found = over_mesh(scatter, (64, 2), inputs=ALL, outputs=ALL)
    assert {(c.kind, c.axes, c.size) for c in found} == {
        ("reduce-scatter", "fsdp", 8 * 2 * 2),
        ("all-reduce", "data", 4 * 2 * 2),
    }


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", "tensor"),
        ("{{0,2},{1,3},{4,6},{5,7}}", "fsdp"),
        ("[2,4]<=[8]", "fsdp+tensor"),
        ("[4,2]<=[2,4]T(1,0)", "data"),
        ("{}", "data+fsdp+tensor"),
        ("mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_1'}", "fsdp"),
        ("mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'a'}", "fsdp"),
        ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", "data"),
    ],
)
def test_every_way_of_writing_groups_is_understood(groups, axes):
    program = f"""HloModule m

ENTRY %main (p: f32[4]) -> f32[4] {{
  %p = f32[4]{{0}} parameter(0)
  ROOT %r = f32[4]{{0}} all-reduce(%p), replica_groups={groups}, to_apply=%add
}}
"""
    (found,) = collectives(program, MESH)
    assert found.axes == axes


def test_what_cannot_be_read_is_not_guessed():
    program = """ENTRY %main (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %r = f32[4]{0} all-reduce(%p), replica_groups=something, to_apply=%add
}
"""
    with pytest.raises(ValueError, match="groups of a collective"):
        collectives(program, MESH)
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives("", MESH)
