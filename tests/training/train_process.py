"""Train the toy in a process of its own, to be killed: RUN_DIR STEPS SECONDS_A_BATCH KIND."""

import sys

from kmm_jax.training.loop import train
from tests.training import toy

if __name__ == "__main__":
    run_dir, steps, seconds, kind = sys.argv[1:]
    result = train(
        toy.killed_experiment(int(steps), kind),
        run_dir,
        loader=toy.ToyLoader(seconds=float(seconds)),
        initial=toy.Given(),
    )
    print(result.end, result.step)
