"""Start a piece of work in a process, kill it at a random moment, look at what it left, repeat.

``python kill_loop.py export|index FOLDER REPEATS``; exits with 1 if anything half-written was taken
for a whole one. Processes are forked, so that imports are paid for once.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.retrieval import Index, IndexSettings, export_embeddings, load_embeddings

ROWS, PART, DIM = 60, 4, 6


def compute(start, stop):
    time.sleep(0.004)
    rng = np.random.default_rng(start)
    return [f"그림-{row}" for row in range(start, stop)], rng.normal(size=(stop - start, DIM))


def export(folder):
    export_embeddings(
        folder, rows=ROWS, part_rows=PART, compute=compute, kind="image", model_hash="m", dim=DIM
    )


def look_at_export(folder):
    try:
        loaded = load_embeddings(folder)
    except DataError:
        return
    wanted = np.concatenate([compute(start, start + PART)[1] for start in range(0, ROWS, PART)])
    assert loaded.ids == [f"그림-{row}" for row in range(ROWS)]
    assert np.array_equal(loaded.vectors, wanted.astype(np.float32))


def index(folder, version):
    vectors = np.random.default_rng(version).normal(size=(800, 8))
    ids = [f"{version}-{row}" for row in range(len(vectors))]
    settings = IndexSettings(layout="hashed")
    Index.build(folder, ids, vectors, model_hash=f"m{version}", settings=settings)


def look_at_index(folder):
    try:
        found = Index.load(folder)
    except DataError:
        # Between two renames the old index is whole under its other name, or none was there yet.
        aside = folder.with_name(f".{folder.name}.old")
        if not aside.exists():
            return
        found = Index.load(aside)
    version = found.model_hash[1:]
    assert {each.partition("-")[0] for each in found.ids} == {version}
    vectors = np.random.default_rng(int(version)).normal(size=(800, 8))
    assert found.search(vectors[::100], 1).rows[:, 0].tolist() == list(range(0, 800, 100))


def in_a_process(work, kill_after=None):
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status), os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def main():
    what, folder, repeats = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    work = {"export": lambda n: export(folder), "index": lambda n: index(folder, n)}[what]
    look = {"export": look_at_export, "index": look_at_index}[what]
    started = time.monotonic()
    probe = folder.with_name("probe")
    trial = {"export": lambda: export(probe), "index": lambda: index(probe, 99)}[what]
    assert in_a_process(trial)[1]
    longest = time.monotonic() - started
    chance, killed, tries = random.Random(), 0, 0
    while tries < repeats or (killed < repeats // 3 and tries < 10 * repeats):
        # An export goes on where it was, so it must be killed early to be killed often.
        limit = longest / 4 if what == "export" else longest
        began = time.monotonic()
        was_killed, ended_well = in_a_process(lambda n=tries: work(n), chance.uniform(0, limit))
        assert was_killed or ended_well, "the work failed by itself"
        if ended_well:
            # The machine is faster now, or there is less left to do.
            longest = min(longest, time.monotonic() - began)
        killed += was_killed
        tries += 1
        assert in_a_process(lambda: look(folder))[1], f"after {tries} tries"
    print(f"{killed} killed")
    sys.exit(0)


if __name__ == "__main__":
    main()
