"""The contrastive loss over the global batch.

N global batch, n one device's part of it, E embedding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float


def contrastive_loss(
    image_NE: Float[Array, "N E"],
    text_NE: Float[Array, "N E"],
    scale: Float[Array, ""],
    *,
    mesh: Mesh | None = None,
    axes: Sequence[str] = ("data", "fsdp"),
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Image-to-text plus text-to-image cross-entropy, each the mean over the global batch.

    The sum of both directions, not their mean: CoCa, equation 2 (open_clip and CLIP halve it).

    With a mesh whose ``axes`` span more than one device, each device holds its rows of both inputs,
    gathers the other side's rows (the backward pass scatters their gradients) and computes its
    (n, N) logits; no device holds the N x N matrix.

    Args:
        image_NE, text_NE: unit vectors, float32; row i of one belongs to row i of the other.
        scale: 1 / temperature.

    Returns:
        The loss, and the share of rows whose own counterpart scores highest, in each direction.
    """
    axes = tuple(axis for axis in axes if mesh is not None and axis in mesh.shape)
    devices = math.prod(mesh.shape[axis] for axis in axes) if mesh is not None else 1
    if devices == 1:
        loss, image_hits, text_hits = _rows(image_NE, text_NE, image_NE, text_NE, scale, 0)
        size = len(image_NE)
    else:
        if len(image_NE) % devices:
            raise ValueError(
                f"a contrastive batch of {len(image_NE)} does not divide over {devices} devices"
            )
        rows = PartitionSpec(axes)
        sharded = jax.shard_map(
            functools.partial(_sharded_rows, axes=axes),
            mesh=mesh,
            in_specs=(rows, rows, PartitionSpec()),
            out_specs=(PartitionSpec(),) * 3,
        )
        loss, image_hits, text_hits = sharded(image_NE, text_NE, scale)
        size = len(image_NE)
    return loss / size, {
        "image_to_text_accuracy": image_hits / size,
        "text_to_image_accuracy": text_hits / size,
    }


def _sharded_rows(
    image_nE: Array, text_nE: Array, scale: Array, *, axes: tuple[str, ...]
) -> tuple[Array, Array, Array]:
    image_NE = jax.lax.all_gather(image_nE, axes, tiled=True)
    text_NE = jax.lax.all_gather(text_nE, axes, tiled=True)
    first_row = jax.lax.axis_index(axes) * len(image_nE)
    sums = _rows(image_nE, text_nE, image_NE, text_NE, scale, first_row)
    return jax.lax.psum(sums, axes)


def _rows(
    image_nE: Array,
    text_nE: Array,
    image_NE: Array,
    text_NE: Array,
    scale: Array,
    first_row: int | Array,
) -> tuple[Array, Array, Array]:
    """Sums over this device's rows: loss of both directions, hits of each."""
    own_n = first_row + jnp.arange(len(image_nE))

    def one_direction(query_nE: Array, key_NE: Array) -> tuple[Array, Array]:
        logits_nN = scale * jnp.einsum(
            "ne,me->nm", query_nE, key_NE, preferred_element_type=jnp.float32
        )
        own_logits_n = jnp.take_along_axis(logits_nN, own_n[:, None], axis=1)[:, 0]
        loss = jnp.sum(jax.nn.logsumexp(logits_nN, axis=1) - own_logits_n)
        hits = jnp.sum((logits_nN.argmax(axis=1) == own_n).astype(jnp.float32))
        return loss, hits

    image_loss, image_hits = one_direction(image_nE, text_NE)
    text_loss, text_hits = one_direction(text_nE, image_NE)
    return image_loss + text_loss, image_hits, text_hits
