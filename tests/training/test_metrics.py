import io
import json

import pytest
from tensorboardX.proto.event_pb2 import Event

from kmm_jax.training import hardware
from kmm_jax.training.metrics import MetricsLog, read_records
from kmm_jax.training.progress import Meter, Progress, StepTime


def test_records_after_the_step_are_dropped_and_the_rest_kept(tmp_path):
    log = MetricsLog(tmp_path, step=0)
    for step in range(1, 6):
        log.write(step, {"loss": 1 / step})
    log.write(4, {"점수": 0.5}, evaluator="shop")
    log.close()
    log = MetricsLog(tmp_path, step=4)
    assert log.latest == {"loss": 0.25, "점수": 0.5}
    assert log.evaluated(4, "shop") and not log.evaluated(3, "shop")
    log.write(5, {"loss": 7.0})
    log.close()
    found = [(r["step"], r.get("loss")) for r in read_records(tmp_path / "metrics.jsonl")]
    assert found == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25), (4, None), (5, 7.0)]
    assert "점수" in (tmp_path / "metrics.jsonl").read_text("utf-8")


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    log = MetricsLog(tmp_path, step=0)
    log.write(1, {"loss": float("nan"), "rate": float("inf")})
    log.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "loss": None, "rate": None}


def test_the_numbers_of_each_process_are_in_the_record_alone(tmp_path):
    log = MetricsLog(tmp_path, step=0)
    log.write(3, {"loss": 0.5}, by_process={"speed/host_seconds": [0.5, 0.25]})
    log.close()
    (record,) = read_records(tmp_path / "metrics.jsonl")
    assert record == {"step": 3, "loss": 0.5, "speed/host_seconds": [0.5, 0.25]}
    assert log.latest == {"loss": 0.5}
    assert set(_scalars(tmp_path / "tensorboard")) == {("loss", 3, 0.5)}


def _scalars(folder):
    """(tag, step, value) of the event files, read by their framing: length, CRC, data, CRC."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


def test_tensorboard_gets_the_same_numbers(tmp_path):
    log = MetricsLog(tmp_path, step=0)
    log.write(3, {"loss": 0.5})
    log.write(3, {"zero_shot/top1": 0.25}, evaluator="zero_shot")
    log.close()
    assert set(_scalars(tmp_path / "tensorboard")) == {
        ("loss", 3, 0.5),
        ("zero_shot/top1", 3, 0.25),
    }


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_meter_counts_examples_and_waiting_between_readings():
    clock = Clock()
    meter = Meter(clock)
    meter.waited(0.5)
    meter.done(64)
    meter.done(64)
    clock.now += 2.0
    assert meter.read() == {"speed/examples_per_second": 64.0, "speed/data_wait": 0.25}
    clock.now += 1.0
    assert meter.read() == {"speed/examples_per_second": 0.0, "speed/data_wait": 0.0}


def test_time_on_the_host_is_what_the_devices_were_not_waited_for():
    clock = Clock()
    meter = Meter(clock)
    for _ in range(4):
        clock.now += 0.5
        meter.waited(0.5)
        clock.now += 0.25  # Python
        with meter.devices():
            clock.now += 1.25
    meter.read()  # of no account here
    assert meter.step_time() == StepTime(step=2.0, host=0.75, data=0.5)
    assert meter.step_time() == StepTime(step=0.0, host=0.0, data=0.0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


VALUES = {
    "loss": 2.5,
    "speed/eta_seconds": 80.4,
    "speed/examples_per_second": 812.0,
    "speed/mfu": 0.41,
    "speed/data_wait": 0.03,
}


def test_a_terminal_sees_one_line_rewritten():
    clock, stream = Clock(), Terminal()
    progress = Progress("가게", 100, stream=stream, clock=clock)
    progress.update(10, VALUES)
    clock.now += 10.0
    progress.update(20, VALUES)
    progress.update(21, VALUES)  # too soon
    progress.note("saved")
    assert stream.getvalue().count("\n") == 2
    last = stream.getvalue().split("\r")[-1].splitlines()
    expected = "가게 20/100 | loss 2.5000 | 812 examples/s | MFU 41.0% | data 3% | 0:01:20 left"
    assert last == ["\x1b[2K" + expected, "가게: saved"]


def test_a_file_sees_a_line_every_few_seconds_and_the_last():
    clock, stream = Clock(), io.StringIO()
    progress = Progress("shop", 100, stream=stream, clock=clock)
    for step in range(1, 101):
        clock.now += 1.0
        progress.update(step, {"loss": 1.0})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 21 and lines[-1].startswith("shop 100/100")
    assert "\r" not in stream.getvalue()


class Device:
    def __init__(self, kind):
        self.device_kind = kind


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("cpu", None),
    ],
)
def test_the_peak_is_the_dense_one(kind, tera):
    assert hardware.peak_flops(Device(kind)) == (None if tera is None else tera * 1e12)


def test_mfu_counts_three_forward_passes():
    assert hardware.mfu(1000.0, 2e9, 4, 1.5e12) == pytest.approx(1.0)
