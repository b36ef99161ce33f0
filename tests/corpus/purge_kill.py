"""Purge in a process that is killed at its first change of a file, at its second, and so on.

``python purge_kill.py FOLDER``: FOLDER holds ``start/`` (the targets) and ``hashes.txt``. After
every kill each file must be the old or the new one; the same purge again must end as one that was
not killed. Prints how often it was killed; processes are forked, so that imports are paid for once.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

from kmm_jax.corpus.purge.run import purge

TARGETS = ("corpus", "plain", "embeddings", "index")
NAMED = ("manifest.json", "index.json")


def run(folder):
    purge(folder.parent / "hashes.txt", [str(folder / name) for name in TARGETS],
          receipts=folder / "receipts")  # fmt: skip


def content(folder):
    """Name -> bytes of every file; of a JSON, without the notes, which name receipts."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name.startswith("receipts"):
            continue
        data = path.read_bytes()
        if path.name in NAMED and "work" not in name:
            told = json.loads(data)
            told.pop("purged", None)
            told.pop("seal", None)
            told.get("metadata", {}).pop("purged", None)
            data = json.dumps(told).encode()
        if path.name == "purged.txt":
            data = b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"#"))
        found[name] = data
    return found


def kill_at(number):
    """Make this process end before its ``number``-th change of a name."""
    left = [number]

    def counted(function):
        def change(*arguments, **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return change

    for name in ("replace", "rename", "unlink"):
        setattr(Path, name, counted(getattr(Path, name)))
    shutil.rmtree = counted(shutil.rmtree)


def main(root):
    os.fsync = lambda _: None  # a kill leaves what was written to the system; power is not tested
    start = root / "start"
    shutil.copytree(start, root / "whole")
    run(root / "whole")
    old, new = content(start), content(root / "whole")
    killed = 0
    for number in range(1, 1000):
        work = root / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(start, work)
        child = os.fork()
        if child == 0:
            try:
                kill_at(number)
                run(work)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        killed += 1
        for name, data in content(work).items():
            hidden = any(part.startswith(".") for part in Path(name).parts)
            assert hidden or data in (old.get(name), new.get(name)), (number, name)
        receipts = len(list((work / "receipts").glob("purge-*.json")))
        run(work)
        ended = content(work)
        assert ended == new, (number, sorted(set(ended) ^ set(new)),
                              [n for n in new if ended.get(n) != new[n]])  # fmt: skip
        assert len(list((work / "receipts").glob("purge-*.json"))) == receipts + 1
    print(killed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
