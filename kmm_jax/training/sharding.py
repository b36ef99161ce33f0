"""Where arrays lie: a mesh, rules from parameter path to partition, and what follows from them."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Sequence
from typing import Any, Literal

import jax
import optax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from kmm_jax.errors import ConfigError, nearest
from kmm_jax.models.placement import BATCH_AXES
from kmm_jax.training import device_order
from kmm_jax.training.state import TrainState
from kmm_jax.training.trained import EVERYTHING, Trained

Rules = Sequence[tuple[str, PartitionSpec | Literal["fsdp"]]]

AXES = ("data", "fsdp", "tensor")

# Shapes and shares can be worked out over devices that are not there.
AnyMesh = Mesh | AbstractMesh


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many devices each axis spans; one axis may be -1, "all that are left".

    Attributes:
        data: replicas that split the batch.
        fsdp: devices that split the batch and the parameters.
        tensor: devices that split single layers.
        fsdp_min_size: parameters with fewer elements are replicated by the rule "fsdp": gathering
            them would cost more than holding them.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    fsdp_min_size: int = 2**16


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over all devices, or over the first of them if all sizes are given and ask for less.

    ``tensor`` and ``fsdp`` lie inside a node or slice where they fit, ``data`` across; where they
    do not fit, that is said on stderr.

    Raises:
        ConfigError: the sizes do not fit the devices there are.
    """
    devices = list(devices if devices is not None else jax.devices())
    sizes = mesh_sizes(config, len(devices), whole=jax.process_count() > 1)
    devices = devices[: math.prod(sizes)]
    types = (AxisType.Auto,) * len(AXES)
    arranged = device_order.arrange(devices, sizes)
    if arranged is None:
        return jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)
    island = len(device_order.islands(devices)[0])
    if (crossed := device_order.crossing(sizes, AXES, island)) and jax.process_index() == 0:
        print(
            f"mesh: {' and '.join(crossed)} beyond a node or slice of {island} devices; every step "
            f"then waits for the slower network. Sizes whose product divides {island} do not.",
            file=sys.stderr,
        )
    return Mesh(arranged, AXES, axis_types=types)


def abstract_mesh(config: MeshConfig, devices: int, *, whole: bool = True) -> AbstractMesh:
    """The mesh over so many devices that need not be there; for shapes and shares, not for running.

    Args:
        whole: every device must be used, as several processes require.

    Raises:
        ConfigError: the sizes do not fit that number.
    """
    sizes = mesh_sizes(config, devices, whole=whole)
    return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_sizes(config: MeshConfig, devices: int, *, whole: bool) -> tuple[int, int, int]:
    """The size of each axis, that of -1 found from the number of devices.

    Args:
        whole: every device must be used, as several processes require.

    Raises:
        ConfigError: the sizes do not fit the devices there are.
    """
    sizes = [config.data, config.fsdp, config.tensor]
    shown = " ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        raise ConfigError(f"mesh {shown}: sizes must be at least 1, and at most one may be -1")
    given = math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        if devices % given:
            raise ConfigError(f"mesh {shown}: {devices} devices do not divide by {given}")
        sizes[sizes.index(-1)] = devices // given
    elif given > devices or (whole and given != devices):
        raise ConfigError(f"mesh {shown} needs {given} devices, there are {devices}")
    return sizes[0], sizes[1], sizes[2]


def batch_sharding(mesh: AnyMesh) -> NamedSharding:
    """The first dimension over ``data`` and ``fsdp``, the others whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def param_specs(params: Any, rules: Rules, mesh: AnyMesh, *, fsdp_min_size: int = 0) -> Any:
    """A PartitionSpec for each parameter: that of the first rule whose regex is its whole path.

    ``"fsdp"`` splits the largest divisible dimension (the last among equals) of parameters with at
    least ``fsdp_min_size`` elements. Parameters that no rule names are replicated.

    Args:
        params: nested arrays or shapes; a path is ``vision/norm/scale``.

    Raises:
        ConfigError: a rule that names no parameter, an unknown axis, or a partition that does not
            divide.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    for pattern, _ in rules:
        try:
            found = any(re.fullmatch(pattern, path) for path in paths)
        except re.error as error:
            raise ConfigError(f"sharding rule {pattern!r} is no regex: {error}") from error
        if not found:
            raise ConfigError(
                f"sharding rule {pattern!r} names no parameter{nearest(pattern, paths)}"
            )

    def matching(path: str) -> Any:
        return next((partition for rule, partition in rules if re.fullmatch(rule, path)), None)

    for path in paths:
        _, layers, rest = path.rpartition("layers/")
        # While it computes, a stack knows its layers' names and not its own (models.placement).
        if layers and matching(path) != matching(layers + rest):
            raise ConfigError(
                f"sharding rules: {path} lies by another rule than {layers}{rest}; rules for the "
                "layers of a stack must begin with .*layers/"
            )

    def spec(path: str, shape: tuple[int, ...]) -> PartitionSpec:
        for pattern, partition in rules:
            if re.fullmatch(pattern, path):
                if isinstance(partition, str):
                    return _fsdp(shape, mesh, fsdp_min_size)
                _check_divides(path, shape, partition, mesh)
                return partition
        return PartitionSpec()

    specs = [spec(path, leaf.shape) for path, (_, leaf) in zip(paths, leaves, strict=True)]
    return jax.tree.unflatten(treedef, specs)


def state_shardings(
    state: TrainState,
    specs: Any,
    optimizer: optax.GradientTransformation,
    mesh: AnyMesh,
    trained: Trained = EVERYTHING,
) -> TrainState:
    """The sharding of every leaf of a state; ``state`` may hold shapes only.

    Optimizer moments lie as their parameters do. Left to itself, ``jit(optimizer.init)`` would put
    them all on one device.
    """
    replicated = NamedSharding(mesh, PartitionSpec())
    params = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=_is_spec)

    def moment(leaf: Any, param: Any, sharding: NamedSharding) -> NamedSharding:
        return NamedSharding(mesh, _moment_spec(leaf.shape, param.shape, sharding.spec))

    return TrainState(
        step=replicated,
        params=params,
        opt_state=optax.tree_utils.tree_map_params(
            optimizer,
            moment,
            state.opt_state,
            trained.part(state.params),
            trained.part(params),
            transform_non_params=lambda _: replicated,
        ),
        ema=None if state.ema is None else params,
    )


def _is_spec(value: Any) -> bool:
    return isinstance(value, PartitionSpec)


def _fsdp(shape: tuple[int, ...], mesh: AnyMesh, min_size: int) -> PartitionSpec:
    devices = mesh.shape["fsdp"]
    divisible = [(size, i) for i, size in enumerate(shape) if size % devices == 0]
    if devices == 1 or math.prod(shape) < min_size or not divisible:
        return PartitionSpec()
    _, chosen = max(divisible)
    return PartitionSpec(*("fsdp" if i == chosen else None for i in range(len(shape))))


def _check_divides(
    path: str, shape: tuple[int, ...], partition: PartitionSpec, mesh: AnyMesh
) -> None:
    if len(partition) > len(shape):
        raise ConfigError(
            f"{path} has shape {shape}, fewer dimensions than its partition {partition}"
        )
    for i, axes in enumerate(partition):
        names = () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
        for name in names:
            if name not in mesh.shape:
                raise ConfigError(
                    f"{path}: the mesh has no axis {name!r}{nearest(name, mesh.shape)}"
                )
        devices = math.prod(mesh.shape[name] for name in names)
        if shape[i] % devices:
            raise ConfigError(
                f"{path} has shape {shape}; dimension {i} does not divide over the {devices} "
                f"devices of {'+'.join(names)}; choose another mesh size or sharding rule"
            )


def _moment_spec(
    shape: tuple[int, ...], param_shape: tuple[int, ...], spec: PartitionSpec
) -> PartitionSpec:
    if shape == param_shape:
        return spec
    # Adafactor's row and column sums lack one dimension of their parameter (its size-1 leaves
    # stand for moments kept elsewhere). Of two equal dimensions either may be left out here.
    whole = [*spec, *[None] * (len(param_shape) - len(spec))]
    for left_out in range(len(param_shape)):
        if shape == param_shape[:left_out] + param_shape[left_out + 1 :]:
            return PartitionSpec(*whole[:left_out], *whole[left_out + 1 :])
    return PartitionSpec()
