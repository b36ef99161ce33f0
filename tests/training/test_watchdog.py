"""A wait that does not end, in a thread and in a process of its own."""

import subprocess
import sys
import threading
import time

import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.training.watchdog import EXIT_CODE, Watchdog
from tests.training import toy


def watchdog(tmp_path, seconds=0.2):
    given_up = threading.Event()
    return Watchdog(seconds, tmp_path / "stacks.txt", give_up=given_up.set), given_up


def test_a_stalled_wait_is_told_with_every_threads_stack(tmp_path, capfd):
    def stuck_in_this_function(leave):
        leave.wait(10)

    leave = threading.Event()
    threading.Thread(target=stuck_in_this_function, args=(leave,)).start()
    dog, given_up = watchdog(tmp_path)
    dog.begin("batch 7 of the data")
    assert given_up.wait(5)
    leave.set()
    dog.close()
    for told in (capfd.readouterr().err, (tmp_path / "stacks.txt").read_text()):
        assert "waiting for batch 7 of the data" in told
        assert "stuck_in_this_function" in told


def test_waits_that_end_in_time_are_left_alone(tmp_path):
    dog, given_up = watchdog(tmp_path)
    for number in range(20):
        dog.begin(f"batch {number}")
        time.sleep(0.03)
        dog.end()
    time.sleep(0.4)  # longer than allowed, but nothing is waited for
    assert not given_up.is_set()
    dog.close()
    assert not (tmp_path / "stacks.txt").exists()


PROGRAM = """
import sys, time
from kmm_jax.training.loop import train
from tests.training import toy

class Stalled(toy.ToyLoader):
    def batches(self, start_step=0):
        for step, batch in enumerate(super().batches(start_step), start_step):
            while step == 6:
                time.sleep(0.1)
            yield batch

train(toy.experiment(stall_seconds=1.0), sys.argv[1], loader=Stalled())
"""


def test_a_stalled_input_ends_the_process_and_the_next_continues(tmp_path, repository):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "run"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == EXIT_CODE
    assert "waiting for batch 6 of the data" in result.stderr
    assert "in batches" in result.stderr, "the stack shows where"
    assert "in batches" in (tmp_path / "run" / "stacks-of-process-0.txt").read_text()
    from kmm_jax.training.loop import train

    assert train(toy.experiment(), tmp_path / "run", loader=toy.ToyLoader()).step == 12


def test_no_time_at_all_is_refused():
    with pytest.raises(ConfigError, match="stall_seconds must be above 0"):
        toy.experiment(stall_seconds=0.0)
