"""From a source's pictures to shards of their latents, once, for training on them often.

B pictures, V of each (itself and mirrored), S pixels along a side, h w Z of the latents.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.bad_rows import BadRowError, BadRows
from kmm_jax.data.config import available_threads
from kmm_jax.data.images import open_rgb, upright_size
from kmm_jax.data.latents import ABOUT, SUFFIX, About, about_json, encoded, read_about
from kmm_jax.data.pipeline import read_row
from kmm_jax.data.reading import in_order
from kmm_jax.data.shards import write_shard
from kmm_jax.data.sources import Source
from kmm_jax.data.tar_headers import members
from kmm_jax.errors import DataError, UserError
from kmm_jax.files import remove_leftovers, write_json
from kmm_jax.generation.compiled import Programs, filled
from kmm_jax.generation.runs import autoencoder_run, is_run, published_run, task_of
from kmm_jax.interop.diffusers.opening import open_autoencoder, refuse_base
from kmm_jax.interop.native import params_hash
from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.config import VAEConfig
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.autoencoder import AutoencoderTask, pixels

SHARD_ROWS = 1000
MAX_BAD_SHARE = 0.01
"""The share of unusable rows that stops it, as it stops a training."""

_Row = tuple[Mapping[str, Any], bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a call did.

    Attributes:
        rows: of the source.
        read: rows that were read now; the others lay in whole shards already.
        bad: rows left out now; ``messages`` says why, for the first 20 of them.
        finished: whether all shards are there, those of other processes too.
    """

    rows: int
    read: int
    bad: int
    messages: list[str]
    finished: bool


def autoencoder_at(
    path: Path, *, base: Path | None = None, variant: str | None = None
) -> tuple[VAEConfig, dict[str, Any]]:
    """The autoencoder of a folder of diffusers, whole or its ``vae/`` alone, a file, or a run.

    Args:
        base: of a single file, a folder with ``vae/config.json``.

    Raises:
        UserError, DataError: there is none.
    """
    if not path.exists():
        raise UserError(f"no model at {path}")
    if not is_run(path):
        return open_autoencoder(path, base=base, variant=variant)
    refuse_base(path, base)
    if isinstance(task_of(path), AutoencoderTask):
        return autoencoder_run(path)
    found = published_run(path)
    return found.config.vae, found.params["vae"]


class Encoder:
    """Pictures to the distributions of their latents, over the devices there are.

    Attributes:
        autoencoder: hash of the parameters.
        batch_size: pictures of a call; fewer are filled up.
    """

    def __init__(
        self, config: VAEConfig, params: Any, *, size: int, mirrored: bool, batch_size: int
    ) -> None:
        if size < 1 or size % config.factor:
            nearest = -(-max(size, 1) // config.factor) * config.factor
            raise UserError(
                f"pictures of {size} pixels do not divide by {config.factor}, as this "
                f"autoencoder's must; choose --size {nearest}"
            )
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, found {batch_size}")
        self.config, self.size, self.mirrored = config, size, mirrored
        self.autoencoder = params_hash(params)
        self._graphdef = nnx.graphdef(abstract_module(lambda rngs: Autoencoder(config, rngs=rngs)))
        self._programs = Programs(jax.local_devices())
        self.batch_size = self._programs.rows(batch_size)
        self._params = self._programs.everywhere(params)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, Z) of a picture's latents."""
        side = self.size // self.config.factor
        return side, side, self.config.latent_channels

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Scaled means and deviations, float32 (B, V, 2, h, w, Z), of uint8 (S, S, 3) each."""
        image_BSS3 = filled(np.stack(images), self.batch_size)
        found = self._programs.run("latents", self._encode, (image_BSS3,), params=self._params)
        return np.asarray(found)[: len(images)]

    def _encode(self, params: Any, image_BSS3: jax.Array) -> jax.Array:
        module = nnx.merge(self._graphdef, params)
        plain = pixels(image_BSS3)
        each = (plain, plain[:, :, ::-1]) if self.mirrored else (plain,)

        def distribution(x_BSS3: jax.Array) -> jax.Array:
            posterior = module.posterior(x_BSS3)
            deviation = jnp.exp(0.5 * posterior.log_variance) * self.config.scaling
            return jnp.stack([module.scaled(posterior.mean), deviation], axis=1)

        return jnp.stack([distribution(x) for x in each], axis=1)


def cache_latents(
    encoder: Encoder,
    source: Source,
    folder: str | os.PathLike[str],
    *,
    shard_rows: int = SHARD_ROWS,
    max_bad_share: float = MAX_BAD_SHARE,
    source_url: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    process_index: int = 0,
    process_count: int = 1,
) -> Report:
    """Write the latents of every good row of ``source``; goes on after the shards that are whole.

    A shard is made of ``shard_rows`` rows of the source and appears whole; ``about.json`` says that
    the work is unfinished until the last one stands. Bad rows are left out and counted; too many
    stop it.

    Args:
        source_url: what ``open_source`` opens again, by default the source's name.
        progress: called after each batch with the rows this call has read, and will read.
        process_index, process_count: of several processes that share the folder, each makes every
            ``process_count``-th shard; the last to end finishes ``about.json``.

    Raises:
        UserError: the folder holds something else, or arguments that cannot work.
        DataError: too many bad rows; names the first. Whole shards stay.
    """
    if shard_rows < 1 or not 0 <= process_index < process_count:
        raise UserError(
            f"shard_rows must be at least 1 (found {shard_rows}) and process_index below "
            f"process_count (found {process_index} of {process_count})"
        )
    about = About(
        autoencoder=encoder.autoencoder,
        scaling=encoder.config.scaling,
        shift=encoder.config.shift,
        size=encoder.size,
        shape=encoder.shape,
        mirrored=encoder.mirrored,
        dtype=encoder.config.dtype,
        source=source_url or source.name,
        rows=len(source),
        shard_rows=shard_rows,
    )
    folder = Path(folder)
    _begin(folder, about)
    shards = [folder / f"latents-{i:05d}.tar" for i in range(-(-about.rows // shard_rows))]
    own = range(process_index, len(shards), process_count)
    wanted = [number for number in own if whole_rows(shards[number]) is None]
    spans = {n: range(n * shard_rows, min((n + 1) * shard_rows, about.rows)) for n in wanted}
    bad_rows = BadRows([(source.name, about.rows)], max_share=max_bad_share)
    total = sum(map(len, spans.values()))
    with ThreadPoolExecutor(available_threads(), thread_name_prefix="kmm-latents") as pool:
        try:
            for number, span in spans.items():
                remove_leftovers(shards[number])
                tell = functools.partial(_tell, progress, bad_rows, total)
                rows = _rows(encoder, source, span, pool, bad_rows, tell)
                write_shard(shards[number], rows, suffix=SUFFIX)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if process_count == 1:
        remove_leftovers(folder / ABOUT)
    finished = _finish(folder, about, shards, max_bad_share)
    return Report(
        rows=about.rows,
        read=bad_rows.tried,
        bad=len(bad_rows),
        messages=bad_rows.listing(),
        finished=finished,
    )


def whole_rows(shard: Path) -> int | None:
    """How many rows a whole shard holds, perhaps none; None where it is missing or damaged."""
    try:
        total = shard.stat().st_size
        with shard.open("rb", buffering=2048) as file:
            return sum(member.name.endswith(SUFFIX) for member in members(file, str(shard), total))
    except (FileNotFoundError, DataError):
        return None


def _rows(
    encoder: Encoder,
    source: Source,
    span: range,
    pool: ThreadPoolExecutor,
    bad_rows: BadRows,
    tell: Callable[[], None],
) -> Iterator[_Row]:
    """The rows of one shard, a batch at a time."""
    seen: set[str] = set()
    pending: list[tuple[int, Mapping[str, Any], np.ndarray]] = []

    def read(number: int) -> tuple[Mapping[str, Any], np.ndarray] | DataError:
        decode = functools.partial(open_rgb, min_side=encoder.size)
        try:
            good = read_row(source, number, fields=None, decode=decode)
        except DataError as error:
            return error
        record = {**good.row.record, "image_size": list(upright_size(good.row.image))}
        return record, resize_centre(good.picture, encoder.size)

    made = in_order(pool, read, span, ahead=2 * encoder.batch_size)
    for number, row in zip(span, made, strict=True):
        if isinstance(row, DataError):
            bad_rows.bad(0, number, row)
        elif row[0]["image_hash"] in seen:
            key = row[0]["image_hash"]
            bad_rows.bad(0, number, BadRowError("record", f"{key}: twice in a shard", key=key))
        else:
            seen.add(row[0]["image_hash"])
            pending.append((number, *row))
        if len(pending) == encoder.batch_size:
            yield from _encoded(encoder, pending, bad_rows)
            pending = []
            tell()
    if pending:
        yield from _encoded(encoder, pending, bad_rows)
    tell()


def _encoded(
    encoder: Encoder,
    pending: list[tuple[int, Mapping[str, Any], np.ndarray]],
    bad_rows: BadRows,
) -> Iterator[_Row]:
    found = encoder([image for _, _, image in pending])
    for (number, record, _), latents_V2hwZ in zip(pending, found, strict=True):
        try:
            content = encoded(latents_V2hwZ)
        except DataError as error:
            key = record["image_hash"]
            bad_rows.bad(0, number, BadRowError("image", f"{key}: {error}", key=key))
            continue
        bad_rows.good(0, number)
        yield record, content


def _tell(progress: Callable[[int, int], None], bad_rows: BadRows, total: int) -> None:
    progress(bad_rows.tried, total)


def _begin(folder: Path, about: About) -> None:
    """Say what is being made, or refuse a folder where something else is."""
    # In this order: other processes may begin at the same time, with what is said first.
    others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if not (folder / ABOUT).is_file():
        if any(not name.startswith(f".{ABOUT}.") for name in others) or folder.is_file():
            raise UserError(f"{folder} exists and holds no latents; choose another folder")
        write_json(folder / ABOUT, about_json(about, None))
        return
    before, _ = read_about(folder)
    for field in dataclasses.fields(About):
        then, now = getattr(before, field.name), getattr(about, field.name)
        if then != now:
            raise UserError(
                f"{folder} holds other latents: {field.name} is {then!r} there and {now!r} now; "
                "choose another folder or remove this one"
            )


def _finish(folder: Path, about: About, shards: Sequence[Path], max_bad_share: float) -> bool:
    """Name the shards in ``about.json`` if all are whole, of whichever process."""
    rows = [whole_rows(shard) for shard in shards]
    counts = [count for count in rows if count is not None]
    if len(counts) < len(rows):
        return False
    bad = about.rows - sum(counts)
    if not sum(counts) or bad > max_bad_share * about.rows:
        raise DataError(
            f"{folder}: {bad:,} of the {about.rows:,} rows are bad; the limit max_bad_share is "
            f"{max_bad_share:.1%}. Mend the data and choose a new folder, or raise the limit"
        )
    named = [
        {"file": shard.name, "rows": count}
        for shard, count in zip(shards, counts, strict=True)
        if count
    ]
    write_json(folder / ABOUT, about_json(about, named))
    return True
