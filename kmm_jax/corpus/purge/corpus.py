"""Pictures out of a corpus: its shards, its manifest, and what it will build from now on."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kmm_jax.corpus import shards, tables
from kmm_jax.corpus.purge import hashes as lists
from kmm_jax.corpus.purge import tars
from kmm_jax.corpus.purge.leftovers import sweep
from kmm_jax.corpus.report import PAGE, card
from kmm_jax.errors import DataError
from kmm_jax.files import locked, write_json
from kmm_jax.retrieval.purging import Found, Journal, Note

_MANIFEST = "manifest.json"


class Corpus:
    """A corpus's folder, or its ``shards`` alone where they were moved.

    Attributes:
        root: the folder that builds write to; None where there is none.
    """

    kind = "corpus"

    def __init__(self, path: Path) -> None:
        inside = path / "shards"
        is_root = inside.is_dir() or (path / "work").is_dir()
        self._shards = inside if is_root else path
        parent = self._shards.resolve().parent
        self.root = path if is_root else parent if (parent / "work").is_dir() else None
        self.path = self.root or self._shards
        self._journal = Journal(self._shards)

    @property
    def page(self) -> Path | None:
        """The report, if there is one."""
        return self.root / PAGE if self.root and (self.root / PAGE).exists() else None

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Keep builds out of the folder while the block runs.

        Raises:
            UserError: one is at work there.
        """
        if self.root is None:
            return contextlib.nullcontext()
        return locked(self.root / ".lock", "a corpus is being built here")

    def mend(self) -> None:
        """Bring back shards that a killed build had moved aside; remove what writers left."""
        if self.root is not None:
            aside = self.root / ".shards.old"
            if aside.exists() and not self._shards.exists():
                aside.rename(self._shards)
            for name in (lists.LIST, PAGE):
                sweep(self.root, name)
        sweep(self._shards)

    def look(self, hashes: frozenset[str]) -> Found:
        """Rows named by one of the hashes: a shard's members are named so."""
        paths = sorted(self._shards.glob("*.tar"))
        for name in self._missing(paths):
            raise DataError(
                f"{self._shards / name} is missing, which {_MANIFEST} lists; build the corpus "
                "again, or bring it back"
            )
        found = tars.look_at(paths, hashes, read_records=False)
        in_shards = {value for one in found.leaving for value in one.hashes}
        return Found(
            rows=found.rows,
            removed=found.removed,
            files=found.files,
            leaving=found.leaving,
            work_only=tuple(self._in_work(hashes - in_shards)),
            unfinished=self._journal.exists(),
        )

    def remember(self, hashes: Iterable[str], note: Note) -> None:
        """List the pictures as ones that no build takes up again."""
        if self.root is not None:
            lists.extend(self.root / lists.LIST, hashes, f"{note['date'][:10]} {note['receipt']}")

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Write the shards again, then the manifest; one that nothing is left of is removed."""
        if self.root is not None and hashes:
            # It may show some of them; `kmm corpus report` makes it again without them.
            (self.root / PAGE).unlink(missing_ok=True)
            # Shards half built would be begun anew in any case; those a build replaced are left.
            for leftover in (".building", ".shards.old"):
                shutil.rmtree(self.root / leftover, ignore_errors=True)
        if not found.leaving and not found.unfinished:
            return
        names, notes = self._journal.begin([one.path.name for one in found.leaving], note)
        for one in found.leaving:
            tars.remove_from(one.path, hashes, read_records=False)
        self._describe(names, found.rows - found.removed, notes)
        self._journal.end()

    def near(self, hashes: frozenset[str]) -> dict[str, str]:
        """Near duplicates that a build met: hash -> the one of ``hashes`` that it is near."""
        found: dict[str, str] = {}
        if self.root is None:
            return found
        for path in sorted((self.root / "work" / "dropped").glob("*.parquet")):
            for group in range(len(tables.group_rows(path))):
                for row in tables.group(path, group):
                    for one, other in (
                        (row["worse"], row["better"]),
                        (row["better"], row["worse"]),
                    ):
                        if one in hashes and other not in hashes:
                            found[other] = one
        return found

    def _missing(self, paths: list[Path]) -> list[str]:
        """Shards that the manifest lists and that no stopped purge can have removed."""
        if self._journal.exists():
            return []
        there = {path.name for path in paths}
        return [one["name"] for one in self._manifest()["shards"] if one["name"] not in there]

    def _manifest(self) -> dict[str, Any]:
        path = self._shards / _MANIFEST
        if not path.exists():  # nothing was built yet
            return {"shards": []}
        try:
            manifest: Any = json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is damaged: {error}; build the corpus again") from error
        listed = manifest.get("shards") if isinstance(manifest, dict) else None
        if not isinstance(listed, list) or not all(
            isinstance(one, dict) and isinstance(one.get("name"), str) for one in listed
        ):
            raise DataError(f"{path} lists no shards; bring it back, or build the corpus again")
        found: dict[str, Any] = manifest
        return found

    def _describe(self, names: list[str], rows: int, notes: list[Note]) -> None:
        """Say in the manifest what the shards ``names`` are now; once more changes nothing."""
        manifest = self._manifest()
        listed = []
        for one in manifest["shards"]:
            path = self._shards / one["name"]
            if one["name"] in names:
                if not path.exists():
                    continue
                sha256, size = shards.digest(path)
                one = {**one, "bytes": size, "sha256": sha256}
            listed.append(one)
        before = manifest.get("purged", [])
        manifest |= {"rows": rows, "shards": listed}
        manifest.pop("mark", None)  # they are not what a build made of its input any more
        manifest["purged"] = before + [dict(one) for one in notes if one not in before]
        write_json(self._shards / _MANIFEST, manifest)
        card.recount(self._shards, manifest)

    def _in_work(self, hashes: frozenset[str]) -> list[str]:
        """Those that the build has seen: rejected, near another one, or purged before."""
        if self.root is None or not hashes:
            return []
        wanted = pa.array(sorted(hashes), pa.string())
        seen: set[str] = set()
        for path in sorted((self.root / "work" / "facts").glob("*.parquet")):
            with pq.ParquetFile(path) as table:
                for batch in table.iter_batches(columns=[lists.COLUMN]):
                    column = batch.column(0)
                    seen.update(column.filter(pc.is_in(column, wanted)).to_pylist())
        return sorted(seen)
