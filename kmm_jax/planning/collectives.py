"""What a compiled step sends over the network, read from XLA's own program.

The program is taken after partitioning and before a backend's own passes: what comes later depends
on the machine that compiles (a CPU computes bfloat16 in float32, and sends it so), what comes
before has no collectives yet.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2}
_BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*?)\)(, .*)?$")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|to_apply|calls|branch_computations)=\{?(%[\w.-]+(?:, %[\w.-]+)*)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of the program.

    Attributes:
        kind: one of ``KINDS``.
        axes: the mesh axes it goes along, joined by "+"; "-" for one that goes nowhere.
        members: devices of one group.
        size: bytes of the whole array, on the side where it is whole.
        times: how often a step runs it: loops count.
    """

    kind: str
    axes: str
    members: int
    size: int
    times: int

    @property
    def sent(self) -> float:
        """Bytes a device sends in one step, by the ring every backend comes near to."""
        whole = float(self.size * self.times)
        if self.kind in ("collective-permute", "collective-broadcast"):
            return whole
        passes = 2 if self.kind == "all-reduce" else 1  # it is a reduce-scatter and an all-gather
        return passes * whole * (self.members - 1) / self.members


def collectives(program: str, mesh: Mapping[str, int]) -> list[Collective]:
    """The collectives of a partitioned program.

    Args:
        program: the HLO text, with loops whose bounds are constants (as ``lax.scan`` makes them).
        mesh: size by axis, in the order in which devices are numbered.

    Raises:
        ValueError: the text is of a form this cannot read; nothing is guessed.
    """
    computations, entry = _parse(program)
    times: collections.Counter[str] = collections.Counter()
    _count(computations, entry, 1, times)
    found = []
    for name, instructions in computations.items():
        if not times[name]:
            continue
        users = _users(instructions)
        for instruction in instructions.values():
            kind = instruction.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            members = _members(instruction.rest, kind, math.prod(mesh.values()))
            size = _size(instruction.shape)
            if kind == "reduce-scatter":
                size = sum(_size(instructions[operand].shape) for operand in instruction.operands)
            for part in _as_sent(kind, _axes(members, mesh), size, _kept(instruction, users), mesh):
                found.append(dataclasses.replace(part, times=times[name]))
    return found


def _as_sent(
    kind: str, axes: tuple[str, ...], size: int, kept: int, mesh: Mapping[str, int]
) -> list[Collective]:
    """What GPU and TPU backends make of it.

    Of an all-reduce of which each device keeps a part, a reduce-scatter over the axes that the
    parts lie along, and an all-reduce of the parts over the others.
    """

    def one(kind: str, axes: Sequence[str], size: int) -> Collective:
        members = math.prod(mesh[axis] for axis in axes)
        return Collective(
            kind=kind, axes="+".join(axes) or "-", members=members, size=size, times=1
        )

    if kind == "all-reduce" and kept < size:
        for count in range(1, len(axes) + 1):
            for along in itertools.combinations(reversed(axes), count):
                if math.prod(mesh[axis] for axis in along) * kept == size:
                    scattered = [axis for axis in axes if axis in along]
                    rest = [axis for axis in axes if axis not in along]
                    parts = [one("reduce-scatter", scattered, size)]
                    return parts + ([one("all-reduce", rest, kept)] if rest else [])
    return [one(kind, axes, size)]


def sent_by(found: Iterable[Collective]) -> dict[tuple[str, str], float]:
    """Bytes a device sends in one step, by kind and axes."""
    sums: dict[tuple[str, str], float] = {}
    for collective in found:
        if collective.axes != "-":
            key = collective.kind, collective.axes
            sums[key] = sums.get(key, 0.0) + collective.sent
    return sums


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str


def _parse(program: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    computations: dict[str, dict[str, _Instruction]] = {}
    entry, current = "", None
    for line in program.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            operands = tuple(re.findall(r"%([\w.-]+)", match[5]))
            if match[4] == "constant":
                operands = (match[5],)
            current[match[2]] = _Instruction(match[2], match[3], match[4], operands, match[6] or "")
    if not entry:
        raise ValueError("no ENTRY computation: this is no HLO program")
    return computations, entry


def _count(
    computations: Mapping[str, Mapping[str, _Instruction]],
    name: str,
    factor: int,
    times: collections.Counter[str],
) -> None:
    """How often a step runs each computation that holds collectives, from ``name`` down."""
    times[name] += factor
    for instruction in computations[name].values():
        called = _CALLED.search(instruction.rest)
        if called is None or instruction.opcode.removesuffix("-start") in KINDS:
            continue
        trips = _trips(computations, instruction) if instruction.opcode == "while" else 1
        for callee in called[1].split(", "):
            _count(computations, callee.lstrip("%"), factor * trips, times)


def _trips(computations: Mapping[str, Mapping[str, _Instruction]], loop: _Instruction) -> int:
    """The number of turns: a ``lax.scan`` counts from 0 up to a constant."""
    condition = re.search(r"condition=%?([\w.-]+)", loop.rest)
    inner = computations[condition[1]] if condition else {}
    bounds = [
        int(inner[operand].operands[0])
        for instruction in inner.values()
        if instruction.opcode == "compare" and "direction=LT" in instruction.rest
        for operand in instruction.operands
        if inner[operand].opcode == "constant"
    ]
    if len(bounds) != 1:
        raise ValueError(f"the loop {loop.name} has no constant bound that can be read")
    return bounds[0]


def _users(instructions: Mapping[str, _Instruction]) -> dict[str, list[_Instruction]]:
    users: dict[str, list[_Instruction]] = collections.defaultdict(list)
    for instruction in instructions.values():
        for operand in instruction.operands:
            users[operand].append(instruction)
    return users


# What changes the form of an array and not which of its elements a device needs.
_PASSING = ("bitcast", "convert", "copy", "reshape", "transpose")


def _kept(instruction: _Instruction, users: Mapping[str, Sequence[_Instruction]]) -> int:
    """Bytes of the result that a device goes on with: less than all if it is only ever sliced."""
    whole = _size(instruction.shape)
    kept = []
    for user in users.get(instruction.name, ()):
        if user.opcode == "dynamic-slice" and user.operands[0] == instruction.name:
            kept.append(_size(user.shape))
        elif user.opcode in _PASSING:  # a cast changes the bytes, and not the share
            kept.append(whole * _kept(user, users) // max(_size(user.shape), 1))
        else:
            return whole
    return max(kept, default=whole)


def _size(shape: str) -> int:
    """Bytes of an array or a tuple of arrays."""
    total = 0
    for dtype, dimensions in _SHAPE.findall(shape):
        if dtype not in _BYTES:
            raise ValueError(f"the dtype of {shape} is unknown here")
        total += _BYTES[dtype] * math.prod(int(d) for d in dimensions.split(",") if d)
    return total


def _members(attributes: str, kind: str, devices: int) -> list[int]:
    """The devices of the group that device 0 is in."""
    if kind == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", attributes + "}")
        numbers = [int(n) for n in re.findall(r"\d+", pairs[1])] if pairs else []
        moved = [(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True) if a != b]
        # A permutation has pairs and no groups; the first that moves tells which axes it crosses.
        return list(moved[0]) if moved else [0]
    if "replica_groups={}" in attributes:
        return list(range(devices))
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return [int(n) for n in match[1].split(",")]
    if match := re.search(r"replica_groups=(\[[\d,]+\]<=\[[\d,]+\](?:T\([\d,]+\))?)", attributes):
        sizes, _, order = match[1].partition("<=")
        return _group_of_0(_iota(order).reshape(_numbers(sizes)))
    match = re.search(
        r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", attributes
    )
    if match:
        names = re.findall(r"'(\w+)'=", match[1])
        sizes = [int(n) for n in re.findall(r"=(\d+)", match[1])]
        along = re.findall(r"'(\w+)'", match[3])
        if ":" in match[3]:
            raise ValueError(f"groups along a part of an axis cannot be read: {match[0]}")
        ids = (_iota(match[2]) if match[2] else np.arange(math.prod(sizes))).reshape(sizes)
        last = [names.index(name) for name in along]
        ids = np.moveaxis(ids, last, range(-len(last), 0))
        return _group_of_0(ids.reshape(-1, math.prod(sizes[i] for i in last)))
    raise ValueError(f"the groups of a collective cannot be read: {attributes[:200]}")


def _iota(text: str) -> np.ndarray:
    """The device numbers of ``[2,4,2]T(1,0,2)``: counted up in that shape, then transposed."""
    shape, _, order = text.partition("T")
    ids = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return (ids.transpose(_numbers(order)) if order else ids).reshape(-1)


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def _group_of_0(groups: np.ndarray) -> list[int]:
    return [int(n) for n in groups[(groups == 0).any(axis=1)][0]]


def _axes(members: Sequence[int], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The axes along which the members' places in the mesh differ."""
    places = np.unravel_index(list(members), tuple(mesh.values()))
    return tuple(
        axis for axis, place in zip(mesh, places, strict=True) if len(set(place.tolist())) > 1
    )
