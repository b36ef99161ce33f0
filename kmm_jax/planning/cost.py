"""Memory, operations and memory traffic of a traced computation, counted from its jaxpr.

An analytic count of what the model asks for, before any compiler: equations run in the order they
are written; an elementwise result that only elementwise work or a reduction consumes stays in
registers, as every backend fuses it; a named scope may stand for one fused kernel (flash
attention), inside of which nothing reaches memory.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# One result element from one element of each operand; all of them fuse.
_ELEMENTWISE = _names(
    """
    abs add add_any and atan2 broadcast_in_dim cbrt ceil clamp convert_element_type copy cos div eq
    erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow iota is_finite le log log1p
    logistic lt max min mul ne neg nextafter not or pad pcast pow pvary real reduce_precision rem
    round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic shift_right_logical
    sign sin slice sqrt square stop_gradient sub tan tanh xor
    """
)
# Another look at the same elements; a matrix product reads its operands in any order.
_VIEWS = _names("reshape squeeze expand_dims transpose")
_REDUCTIONS = _names(
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin"
)
_FUSABLE = _ELEMENTWISE | _VIEWS | _REDUCTIONS | {"gather", "dynamic_slice"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """What runs as one kernel.

    Attributes:
        flops: of its matrix products and convolutions, two for a multiply-add.
        traffic: bytes it reads from and writes to memory.
        times: how often it runs: loops count.
    """

    flops: float
    traffic: float
    times: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a computation costs.

    Attributes:
        peak: the most bytes alive at once, without the computation's inputs.
        operations: all that runs.
    """

    peak: float
    operations: tuple[Operation, ...]

    @property
    def flops(self) -> float:
        """Of all operations."""
        return sum(op.flops * op.times for op in self.operations)

    def seconds(self, *, flops: float, bandwidth: float) -> float:
        """The roofline: each kernel takes its operations' time or its traffic's, the longer."""
        return sum(
            max(op.flops / flops, op.traffic / bandwidth) * op.times for op in self.operations
        )

    def seconds_of_memory(self, *, flops: float, bandwidth: float) -> float:
        """The part of ``seconds`` that memory traffic bounds."""
        return sum(
            op.traffic / bandwidth * op.times
            for op in self.operations
            if op.traffic / bandwidth > op.flops / flops
        )


def cost(jaxpr: core.Jaxpr, *, kernel: str | None = None) -> Cost:
    """The cost of a jaxpr.

    Args:
        kernel: the name of a ``jax.named_scope`` whose inside is one fused kernel.
    """
    walk = _Walk(kernel)
    peak, _ = walk.through(jaxpr, [False] * len(jaxpr.invars), 1, whole=True)
    return Cost(peak=peak, operations=tuple(walk.operations))


def bodies(jaxpr: core.Jaxpr, primitive: str) -> list[core.Jaxpr]:
    """The jaxprs inside every equation of that primitive, wherever it stands."""
    found = []
    for equation in jaxpr.eqns:
        for inner in _inside(equation):
            if equation.primitive.name == primitive:
                found.append(inner)
            else:
                found += bodies(inner, primitive)
    return found


def _inside(equation: core.JaxprEqn) -> list[core.Jaxpr]:
    """The jaxprs an equation runs; of the branches of a condition, the first."""
    inner = [
        value.jaxpr if isinstance(value, core.ClosedJaxpr) else value
        for name, value in equation.params.items()
        if isinstance(value, core.Jaxpr | core.ClosedJaxpr) and "cond" not in name
    ]
    if equation.primitive.name == "cond":
        inner.append(equation.params["branches"][0].jaxpr)
    return inner


class _Equation(NamedTuple):
    """An equation with its calls opened: ``body`` is that of a loop, a condition or a shard_map."""

    primitive: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    params: Mapping[str, Any]
    in_kernel: bool
    body: core.Jaxpr | None

    @property
    def fuses(self) -> bool:
        return self.primitive in _ELEMENTWISE


# Calls that leave no trace in the program.
_CALLS = _names(
    "jit pjit closed_call core_call custom_jvp_call custom_vjp_call remat remat2 checkpoint"
)


class _Walk:
    """One pass over a jaxpr and all inside it."""

    def __init__(self, kernel: str | None) -> None:
        self.kernel = kernel
        self.operations: list[Operation] = []

    def through(
        self,
        jaxpr: core.Jaxpr,
        unwritten: Sequence[bool],
        times: int,
        *,
        whole: bool = False,
        in_kernel: bool = False,
    ) -> tuple[float, list[bool]]:
        """The peak of what is made inside, and which results never reach memory.

        Args:
            unwritten: which inputs do not stand in memory.
            whole: this is no body of a loop; its results are used outside.
        """
        names: dict[Any, Any] = {}
        equations = list(self._opened(jaxpr, names, in_kernel))
        results = [names.get(var, var) for var in _variables(jaxpr.outvars)]
        users: dict[Any, list[_Equation]] = collections.defaultdict(list)
        for equation in equations:
            for var in _variables(equation.inputs):
                users[var].append(equation)

        virtual = {var for var, is_so in zip(jaxpr.invars, unwritten, strict=True) if is_so}
        # A loop may hand out what its kernels keep for the backward pass; that is known only once
        # its body was walked, so results are marked in the order they are made.
        peaks: list[float] = []
        for equation in equations:
            inner_peak, marked = self._body(equation, virtual, times)
            peaks.append(inner_peak)
            virtual |= marked
            for var in equation.outputs:
                kept_inside = (
                    equation.in_kernel
                    and not (whole and var in results)
                    and all(user.in_kernel for user in users[var])
                )
                view = equation.primitive in _VIEWS and var not in results
                fused = (
                    equation.fuses
                    and var not in results
                    and all(user.primitive in _FUSABLE for user in users[var])
                )
                if kept_inside or view or fused:
                    virtual.add(var)
        self._add_operations(equations, virtual, times)
        peak = _peak(equations, users, set(results), virtual, peaks)
        return peak, [
            isinstance(var, core.Var) and names.get(var, var) in virtual for var in jaxpr.outvars
        ]

    def _opened(
        self, jaxpr: core.Jaxpr, names: dict[Any, Any], in_kernel: bool
    ) -> Iterator[_Equation]:
        """The equations of a jaxpr and of all it calls, in one line.

        Args:
            names: filled with what a call's own variables stand for.
        """

        def known(atom: Any) -> Any:
            return names.get(atom, atom) if isinstance(atom, core.Var) else atom

        for equation in jaxpr.eqns:
            name = equation.primitive.name
            scope = str(equation.source_info.name_stack)
            inside = in_kernel or (self.kernel is not None and self.kernel in scope)
            inner = _inside(equation)
            if inner and name in _CALLS:
                # A jaxpr called twice has the same variables: each call needs its own.
                body = inner[0]
                mine = {var: core.Var(var.aval) for e in body.eqns for var in e.outvars}
                mine |= dict(zip(body.invars, map(known, equation.invars), strict=True))
                yield from self._opened(body, mine, inside)
                for var, result in zip(equation.outvars, body.outvars, strict=True):
                    names[var] = mine.get(result, result) if isinstance(result, core.Var) else var
                continue
            yield _Equation(
                name,
                tuple(map(known, equation.invars)),
                tuple(map(known, equation.outvars)),
                equation.params,
                inside,
                inner[-1] if inner else None,
            )

    def _body(self, equation: _Equation, virtual: set[Any], times: int) -> tuple[float, set[Any]]:
        """The peak inside an equation with a body, and its results that are not written."""
        body = equation.body
        if body is None:
            return 0.0, set()
        turns = equation.params["length"] if equation.primitive == "scan" else 1
        # A condition and a loop have inputs of their own before those of the body.
        given = equation.inputs[len(equation.inputs) - len(body.invars) :]
        flags = [isinstance(var, core.Var) and var in virtual for var in given]
        flags = [False] * (len(body.invars) - len(flags)) + flags
        peak, unwritten = self.through(body, flags, times * turns, in_kernel=equation.in_kernel)
        marked = {var for var, is_so in zip(equation.outputs, unwritten, strict=False) if is_so}
        return peak, marked

    def _add_operations(
        self, equations: Sequence[_Equation], virtual: set[Any], times: int
    ) -> None:
        # What is read from memory in the place of a result that is never written.
        sources: dict[Any, frozenset[Any]] = {}
        for equation in equations:
            if equation.body is not None:
                continue
            read = frozenset[Any]().union(
                *(sources.get(var, frozenset((var,))) for var in _variables(equation.inputs))
            )
            written = [var for var in equation.outputs if var not in virtual]
            for var in equation.outputs:
                if var in virtual:
                    sources[var] = frozenset() if equation.in_kernel else read
            flops = _flops(equation)
            traffic = float(sum(map(_bytes, written)))
            if written or equation.in_kernel:
                traffic += sum(map(_bytes, read - virtual))
            if flops or written:
                self.operations.append(Operation(flops=flops, traffic=traffic, times=times))


def _peak(
    equations: Sequence[_Equation],
    users: Mapping[Any, Sequence[_Equation]],
    results: set[Any],
    virtual: set[Any],
    inner_peaks: Sequence[float],
) -> float:
    """The most bytes alive at once."""
    end = len(equations)
    number = {id(equation): place for place, equation in enumerate(equations)}
    last: dict[Any, int] = {}
    # A fused result needs its operands for as long as it is needed itself.
    for equation in reversed(equations):
        for var in equation.outputs:
            last[var] = end if var in results else number[id(equation)]
            for user in users.get(var, ()):
                fused = [last[out] for out in user.outputs if out in virtual]
                last[var] = max(last[var], number[id(user)], *fused)
    ends: dict[int, float] = collections.defaultdict(float)
    for equation in equations:
        for var in equation.outputs:
            if var not in virtual:
                ends[last[var]] += _bytes(var)
    alive = peak = 0.0
    for place, equation in enumerate(equations):
        made = sum(_bytes(var) for var in equation.outputs if var not in virtual)
        peak = max(peak, alive + made + inner_peaks[place])
        alive += made
        alive -= ends[place]
    return max(peak, alive)


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if isinstance(atom, core.Var)]


def _bytes(var: Any) -> float:
    aval = var.aval
    if not hasattr(aval, "shape") or jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended):
        return 0.0
    return float(math.prod(aval.shape)) * aval.dtype.itemsize


def _flops(equation: _Equation) -> float:
    if equation.primitive == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.inputs[0].aval.shape
        depth = math.prod(left[axis] for axis in contracted)
        return 2.0 * math.prod(equation.outputs[0].aval.shape) * depth
    if equation.primitive == "conv_general_dilated":
        kernel = equation.inputs[1].aval.shape
        features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(equation.outputs[0].aval.shape) * math.prod(kernel) / features
    return 0.0
