"""Taggers from labelled rows: a head learned from them, or prompts; thresholds on rows apart.

The head is trained on most rows; on the others the strength of its weight decay is chosen, its
scores are calibrated (Platt) and the threshold of each label is the one of the best F1. The same
rows, seed and machine give the same bytes.

N rows, D dimensions, C labels, H hidden units.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.calibration import fit_platt
from kmm_jax.evaluation.zero_shot import class_vectors
from kmm_jax.inference.platt import Platt
from kmm_jax.tagging.labels import LabelSet
from kmm_jax.tagging.rows import LabelledVectors
from kmm_jax.tagging.tagger import Kind, Tagger, logits, odds
from kmm_jax.tagging.thresholds import best_threshold
from kmm_jax.text.templates import Language

DECAYS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Of AdamW, the strongest first; of equally good ones the strongest is taken."""

_LEAST_OWN = 10  # held-out rows with a label, from which on its scores are calibrated alone
_EVEN = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a head is learned.

    Attributes:
        kind: ``linear`` or ``mlp``.
        hidden: units of an ``mlp``.
        steps: of AdamW, over batches of ``batch`` rows.
        held_out: share of rows that choices are made on; of every label that has two, one at least.
        seed: of the first weights, the batches and the choice of these rows.

    Raises:
        ConfigError: a value that makes no sense.
    """

    kind: Kind = "linear"
    hidden: int = 128
    steps: int = 600
    batch: int = 1024
    learning_rate: float = 1e-2
    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "mlp"):
            raise ConfigError(f"a head that is learned is linear or mlp, not {self.kind!r}")
        for name in ("hidden", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out is a share between 0 and 1, got {self.held_out}")


def fit_tagger(
    rows: LabelledVectors, labels: LabelSet, *, model: str, config: FitConfig | None = None
) -> Tagger:
    """Learn a head from rows.

    A label that no row has is kept without being learned, and never given.

    Args:
        model: hash of the model that the vectors come from.

    Raises:
        DataError: no row with any label.
    """
    config = config or FitConfig()
    counts_C = rows.true_NC.sum(axis=0)
    if not counts_C.any():
        raise DataError(f"no row of {rows.name} has any of the labels to learn from")
    held_N = held_out(rows.true_NC, config.held_out, config.seed)
    learned, held = rows.at(~held_N), rows.at(held_N)
    best: dict[str, np.ndarray] = {}
    least = math.inf
    for decay in DECAYS:
        head = _trained(learned, labels, config, decay)
        loss = _loss(labels, config.kind, head, held) if len(held) else 0.0
        if loss < least:
            best, least = head, loss
    return _judged(labels, config.kind, model, best, held if len(held) else learned, counts_C)


def prompt_tagger(
    embed: Callable[[Sequence[str]], np.ndarray],
    labels: LabelSet,
    *,
    model: str,
    language: Language = "ko",
    rows: LabelledVectors | None = None,
) -> Tagger:
    """A tagger by the labels' prompts, of which no picture was learned (zero-shot).

    Args:
        embed: texts to unit vectors (N, D).
        rows: to calibrate scores and choose thresholds on. Without, a label of a group with
            several is given from a probability of one half among the group on.
    """
    prompts = [texts for group in labels.groups for texts in group.prompts(language)]
    head = {"texts": np.asarray(class_vectors(embed, prompts), np.float32)}
    if rows is None:
        return Tagger(
            labels=labels,
            kind="zero-shot",
            model=model,
            head=head,
            calibration=(Platt(slope=1.0, offset=0.0),) * len(labels),
            thresholds=np.full(len(labels), _EVEN),
            rows=np.zeros(len(labels), np.int64),
        )
    return _judged(labels, "zero-shot", model, head, rows, rows.true_NC.sum(axis=0))


def held_out(true_NC: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows (N,) are held out: of every label about that share, from the rarest on.

    Of a label that two rows have, one is held out and one stays (iterative stratification,
    Sechidis et al. 2011, simplified: what was decided for a rarer label stays).
    """
    rng = np.random.default_rng(seed)
    decided_N, held_N = np.zeros(len(true_NC), bool), np.zeros(len(true_NC), bool)
    for label in np.argsort(true_NC.sum(axis=0), kind="stable"):
        members = np.flatnonzero(true_NC[:, label])
        if not len(members):
            continue
        wanted = min(max(round(share * len(members)), 1), len(members) - 1)
        missing = max(wanted - int(held_N[members].sum()), 0)
        free = rng.permutation(members[~decided_N[members]])
        # A label whose rows are all held out would not be learned.
        if not (~held_N[members] & decided_N[members]).any():
            missing = min(missing, max(len(free) - 1, 0))
        held_N[free[:missing]] = True
        decided_N[members] = True
    return held_N


def _judged(
    labels: LabelSet,
    kind: Kind,
    model: str,
    head: dict[str, np.ndarray],
    held: LabelledVectors,
    counts_C: np.ndarray,
) -> Tagger:
    """A tagger with what its scores are worth, from rows that its head has not seen."""
    score_NC = odds(labels, logits(kind, head, held.vectors_ND.astype(np.float64)), kind=kind)
    learned_C = counts_C > 0
    calibration: list[Platt] = []
    thresholds = np.full(len(labels), math.inf)
    for columns in labels.columns():
        ours = np.arange(columns.start, columns.stop)[learned_C[columns]]
        known_N = held.known_NC[:, columns].any(axis=1)
        together = Platt(slope=1.0, offset=0.0)
        if known_N.any() and len(ours):
            true_NK, score_NK = held.true_NC[known_N][:, ours], score_NC[known_N][:, ours]
            together = fit_platt(score_NK.ravel(), true_NK.ravel())
        for place in range(columns.start, columns.stop):
            platt = together
            true_N, score_N = held.true_NC[known_N, place], score_NC[known_N, place]
            if true_N.sum() >= _LEAST_OWN:
                platt = fit_platt(score_N, true_N)
            if learned_C[place]:
                found, _ = best_threshold(platt.probability(score_N), true_N)
                # What no held-out row has is learned all the same: one half, then.
                thresholds[place] = _EVEN if math.isinf(found) else found
            calibration.append(platt)
    return Tagger(
        labels=labels,
        kind=kind,
        model=model,
        head=head,
        calibration=tuple(calibration),
        thresholds=thresholds,
        rows=counts_C.astype(np.int64),
    )


def _trained(
    rows: LabelledVectors, labels: LabelSet, config: FitConfig, decay: float
) -> dict[str, np.ndarray]:
    """A head of rows, for vectors as they are."""
    import jax
    import jax.numpy as jnp
    import optax

    mean_D = rows.vectors_ND.mean(axis=0)
    spread_D = np.maximum(rows.vectors_ND.std(axis=0), 1e-6)
    vectors_ND = ((rows.vectors_ND - mean_D) / spread_D).astype(np.float32)
    rng = np.random.default_rng(config.seed)
    params = _begun(rng, vectors_ND.shape[1], len(labels), config)
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.adamw(schedule, weight_decay=decay, mask=lambda tree: _kernels(tree))
    state = optimizer.init(params)
    several = tuple(group.several for group in labels.groups)
    columns = tuple((one.start, one.stop) for one in labels.columns())

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, state: Any, x_BD: Any, true_BC: Any, known_BC: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            return _masked_loss(_forward(params, x_BD), true_BC, known_BC, several, columns)

        changes, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, changes), state

    size = min(config.batch, len(vectors_ND))
    for _ in range(config.steps):
        chosen = rng.choice(len(vectors_ND), size, replace=False)
        params, state = update(
            params,
            state,
            jnp.asarray(vectors_ND[chosen]),
            jnp.asarray(rows.true_NC[chosen], jnp.float32),
            jnp.asarray(rows.known_NC[chosen], jnp.float32),
        )
    found = {name: np.asarray(value) for name, value in jax.device_get(params).items()}
    first = "hidden" if config.kind == "mlp" else "out"
    # What standardised the vectors becomes part of the first layer.
    kernel = found[f"{first}.kernel"] / spread_D[:, None]
    found[f"{first}.bias"] = (found[f"{first}.bias"] - mean_D @ kernel).astype(np.float32)
    found[f"{first}.kernel"] = kernel.astype(np.float32)
    return found


def _begun(rng: np.random.Generator, dim: int, labels: int, config: FitConfig) -> dict[str, Any]:
    import jax.numpy as jnp

    if config.kind == "linear":
        found = {"out.kernel": np.zeros((dim, labels)), "out.bias": np.zeros(labels)}
    else:
        found = {
            "hidden.kernel": rng.normal(0, np.sqrt(2 / dim), (dim, config.hidden)),
            "hidden.bias": np.zeros(config.hidden),
            "out.kernel": np.zeros((config.hidden, labels)),
            "out.bias": np.zeros(labels),
        }
    return {name: jnp.asarray(value, jnp.float32) for name, value in found.items()}


def _kernels(params: Any) -> dict[str, bool]:
    return {name: name.endswith("kernel") for name in params}


def _forward(params: Any, x_BD: Any) -> Any:
    import jax

    if "hidden.kernel" in params:
        x_BD = jax.nn.relu(x_BD @ params["hidden.kernel"] + params["hidden.bias"])
    return x_BD @ params["out.kernel"] + params["out.bias"]


def _masked_loss(
    logit_BC: Any,
    true_BC: Any,
    known_BC: Any,
    several: tuple[bool, ...],
    columns: tuple[tuple[int, int], ...],
) -> Any:
    """Cross-entropy over the rows of which a group is known, summed over groups."""
    import jax.numpy as jnp
    import optax

    total = jnp.zeros(())
    for many, (start, stop) in zip(several, columns, strict=True):
        logit, true, known_B = logit_BC[:, start:stop], true_BC[:, start:stop], known_BC[:, start]
        if many:
            error_B = optax.sigmoid_binary_cross_entropy(logit, true).sum(axis=1)
        else:
            error_B = optax.softmax_cross_entropy(logit, true)
        total += (known_B * error_B).sum() / jnp.maximum(known_B.sum(), 1)
    return total


def _loss(
    labels: LabelSet, kind: Kind, head: dict[str, np.ndarray], held: LabelledVectors
) -> float:
    """The same, of held-out rows."""
    logit_NC = logits(kind, head, held.vectors_ND.astype(np.float64))
    return float(
        _masked_loss(
            logit_NC.astype(np.float32),
            held.true_NC.astype(np.float32),
            held.known_NC.astype(np.float32),
            tuple(group.several for group in labels.groups),
            tuple((one.start, one.stop) for one in labels.columns()),
        )
    )
