"""What the training loop asks of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import jax
    from flax import nnx
    from jax.sharding import Mesh, PartitionSpec


STATISTICS = "statistics"
"""Among a loss's scalars, the new values of running statistics: ``Statistics``."""


class Statistics(NamedTuple):
    """New values of running statistics, nested as the parameters they are among; or None."""

    student: Any
    teacher: Any = None


@runtime_checkable
class Task(Protocol):
    """What is trained, on which batch, with which loss; in practice a frozen dataclass."""

    @property
    def sharding_rules(self) -> tuple[tuple[str, PartitionSpec | Literal["fsdp"]], ...]:
        """Ordered (regex over a whole parameter path, partition); the first match counts."""
        ...

    def init(self, key: jax.Array) -> nnx.Module:
        """The module with fresh float32 variables, each ``nnx.Param`` or ``nnx.BatchStat``."""
        ...

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of a batch, a scalar, and scalars to log; ``key`` differs in every step.

        A task whose module has running statistics adds their new values under ``STATISTICS``.
        """
        ...

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call, by name: (module, batch) to arrays. The loop jits them."""
        ...

    def flops_per_example(self) -> float:
        """Operations of one example's forward pass; training counts three times as many."""
        ...


@runtime_checkable
class CheckedTask(Protocol):
    """A task that can tell early that it does not fit the data or the tokenizer."""

    def check(self, *, data: Any, vocabulary: int | None) -> None:
        """Raise ConfigError before anything is compiled; ``vocabulary`` is the tokenizer's size."""
        ...


@runtime_checkable
class LatentTask(Protocol):
    """A task that takes ``latents`` in place of ``image``, made by the autoencoder in its module.

    ``autoencoder`` names the module's part, whose gradient must be none.
    """

    autoencoder: str

    def check_latents(self, about: Any) -> None:
        """Raise ConfigError where latents (``data.latents.About``) are not its autoencoder's."""
        ...


@runtime_checkable
class SplitTask(Task, Protocol):
    """A task whose loss compares the examples of a batch, in two stages.

    With ``accumulate``, the first runs part by part and the second over the whole batch, so that
    the gradient is exactly the whole batch's. A task without them is taken to have a loss that is a
    mean over examples.
    """

    def per_example(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[Any, Any]:
        """Arrays with a leading dimension of examples, and float scalars that add up over them.

        Whole numbers among the arrays reach ``over_batch`` and have no gradient.
        """
        ...

    def over_batch(
        self, module: Any, vectors: Any, sums: Any, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss and the scalars to log, from the whole batch's arrays and sums."""
        ...


@runtime_checkable
class TaughtTask(Protocol):
    """A task that learns from a teacher, the average of its own parameters."""

    def taught_by(self, teacher: Any) -> Task:
        """The same task with this module for its teacher, through which no gradient goes."""
        ...


def with_teacher(task: Task, teacher: Callable[[], Any]) -> Task:
    """The task bound to its teacher, if it is one that learns from one."""
    return task.taught_by(teacher()) if isinstance(task, TaughtTask) else task
