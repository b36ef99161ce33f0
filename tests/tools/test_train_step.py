"""The timing of training steps: what is compared with what, and rows that outlive failures."""

from types import SimpleNamespace

import numpy as np
import pytest

from kmm_jax.models.flops import forward_flops_total
from kmm_jax.training import setup as setups
from kmm_jax.training import sharding
from tests import references
from tools.bench import train_step
from tools.bench.steps import cases, measure, ours, table
from tools.bench.steps.cases import ON_A_PROCESSOR, ON_AN_ACCELERATOR, SIDES, Case

ORIGIN = {"date": "2026-01-01", "hardware": {"device": "1 x some GPU"}}
LARGE = [(Case(model="coca-large", batch=batch), ("kmm_jax",)) for batch in (64, 128, 256)]


def measured(case, side, **more):
    facts = {"mfu": 0.5, "parameters": 10, "peak_bytes": 1e9, "peak_bytes_by": "the device"}
    facts |= {"compile_seconds": 1.0, "dtype": "bfloat16", "how": "", "provenance": ORIGIN}
    head = measure.heading(case, side)
    return {**head, "status": "measured", "samples_per_second": 100.0} | facts | more


def run(planned, answers, *, records=(), minutes=float("inf"), resume=False):
    """The records after ``measure_all``, the cases it tried, and how often it wrote."""
    tried, written, found = [], [], list(records)

    def child(words, minutes):
        tried.append(words[1])
        return answers.get(words[1], (None, "failed (exit status 1)"))

    train_step.measure_all(
        planned,
        found,
        ORIGIN,
        minutes=minutes,
        resume=resume,
        child=child,
        write=lambda records: written.append(len(records)),
    )
    return found, tried, written


def test_names_lead_back_to_their_cases():
    for case in (*ON_AN_ACCELERATOR, *ON_A_PROCESSOR):
        assert cases.case_named(case.name) == case


def test_on_a_known_accelerator_the_plan_stands_beside_what_is_measured():
    experiment = ours.experiment_of(Case(model="clip-b32", batch=512))
    mesh = sharding.abstract_mesh(experiment.mesh, 1)
    setup = setups.prepare(experiment, mesh, examples_per_epoch=512, vocabulary=None)
    planned = ours.planned(experiment, setup, SimpleNamespace(device_kind="NVIDIA H200"))
    model = 3 * 512 * experiment.task.flops_per_example()
    assert model / 989e12 < planned["planned_seconds"] < 5 * model / 989e12
    assert planned["planned_bytes"] > 16 * 151e6  # parameters, two moments, gradients
    assert ours.planned(experiment, setup, SimpleNamespace(device_kind="cpu")) == {}
    record = measured(Case(model="clip-b32", batch=512), "kmm_jax", **planned)
    assert f"{planned['planned_bytes'] / 1e9:.2f}; 0.0" in table.body([record])


@pytest.mark.parametrize("name", ["coca-base", "coca-large", "coca-reduced"])
def test_open_clips_coca_costs_what_ours_does(name):
    config = Case(model=name, batch=1).config
    _, flops = cases.open_clip_decoder_layers(config)
    assert np.isclose(flops, forward_flops_total(config), rtol=0.01)


@pytest.mark.parametrize("case", ON_A_PROCESSOR, ids=lambda case: case.model)
def test_flops_counted_for_open_clip_are_those_pytorch_counts(case):
    references.open_clip()
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tools.bench.steps.theirs import Theirs

    theirs = Theirs(Case(model=case.model, batch=2), compiled=False)
    images, texts = theirs._batch
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        theirs._model(images.float(), texts)
    # PyTorch's own count: causal attention whole, one class token more, the first pooler only.
    assert np.isclose(
        theirs.facts(1.0)["flops_per_example"], counter.get_total_flops() / 2, rtol=0.1
    )


def test_a_batch_that_does_not_fit_is_a_row_and_larger_ones_are_not_tried():
    fits = [measured(LARGE[0][0], "kmm_jax")]
    answers = {"coca-large/64": (fits, ""), "coca-large/128": (None, "out of memory")}
    found, tried, written = run(LARGE, answers)
    assert tried == ["coca-large/64", "coca-large/128"]
    assert [record["status"] for record in found] == [
        "measured",
        "out of memory",
        "not measured (a smaller batch was out of memory)",
    ]
    assert written == [1, 2, 3]


def test_without_time_left_rows_say_so_but_earlier_measurements_stay():
    earlier = measured(LARGE[0][0], "kmm_jax")
    found, tried, _ = run(LARGE, {}, records=[earlier], minutes=0)
    assert not tried and found[0] == earlier
    assert {record["status"] for record in found[1:]} == {"not measured (the time was up)"}


def test_resuming_repeats_what_failed_and_nothing_that_was_measured():
    done = measured(LARGE[0][0], "kmm_jax")
    failed = {**measured(LARGE[1][0], "kmm_jax"), "status": "failed (exit status 1)"}
    other_device = {**ORIGIN, "hardware": {"device": "another"}}
    elsewhere = measured(LARGE[2][0], "kmm_jax", provenance=other_device)
    new = {case.name: ([measured(case, "kmm_jax", mfu=0.6)], "") for case, _ in LARGE}
    found, tried, _ = run(LARGE, new, records=[done, failed, elsewhere], resume=True)
    assert tried == ["coca-large/128", "coca-large/256"]
    assert done in found and elsewhere in found and failed not in found and len(found) == 4
    found, tried, _ = run(LARGE, new, records=[done, failed, elsewhere])
    assert len(tried) == 3 and done not in found and elsewhere in found


def test_the_page_shows_what_was_measured_and_says_what_was_not():
    case = Case(model="coca-large", batch=128)
    gpu = {"provenance": {**ORIGIN, "hardware": {"device": "1 x NVIDIA H200"}}}
    page = table.body(
        [
            measured(case, "kmm_jax", mfu=0.55, **gpu),
            measured(case, "open_clip", samples_per_second=80.0, how="torch.compile", **gpu),
        ]
    )
    row = next(line for line in page.splitlines() if line.startswith("| coca-large (0M) | 128"))
    assert "55.0%" in row and "1.25" in row and "torch.compile" in row
    assert "| MFU of CoCa-Large >= 50 % | H200 | 55.0% | yes |" in page
    assert "| H200 | 1.25 | **no** |" in page
    others = len(ON_AN_ACCELERATOR) - 1
    assert page.count("not measured (no accelerator)") == others
    assert "samples/s" in table.body([]) and SIDES == ("kmm_jax", "open_clip")


def test_a_case_that_fails_says_why(monkeypatch):
    def refuse(case, side):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr(measure, "alone", refuse)
    (record,) = measure.attempt(ON_A_PROCESSOR[0], ("kmm_jax",), "a command")
    assert record["status"] == "out of memory" and record["provenance"]["command"] == "a command"
