"""The timing of pictures: what is timed, and rows that stay beside those of another device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.interop.diffusers import folder as folders
from tools import results
from tools.bench import generate
from tools.bench.pictures import cases
from tools.bench.pictures.cases import ON_A_PROCESSOR, ON_AN_ACCELERATOR, Case


def records(case: Case, *, sides: int = 2, seconds: float = 3.0) -> list[dict[str, Any]]:
    found = []
    for side, each in zip(cases.SIDES[:sides], (seconds, 2 * seconds), strict=False):
        facts = {"share_of_peak": None, "first_seconds": 60.0, "how": "as it is"}
        about = {"case": case.name, "side": side, "model": case.model, "batch": case.batch}
        about |= {"pixels": case.side, "steps": case.steps, "dtype": case.dtype}
        about |= {"seconds": [each], "seconds_per_picture": each / case.batch, "threads": 2}
        about |= {"flops_per_picture": case.flops_per_picture, "load": 1.0}
        found.append({**about, **facts})
    if sides == 2:
        found[0] |= {"ratio": 2.0, "processor_ratio": 1.5}
    return found


def test_the_published_model_costs_what_it_does_elsewhere() -> None:
    case = ON_AN_ACCELERATOR[0]
    assert (case.side, case.dtype) == (512, "bfloat16")
    assert np.isclose(case.flops_per_picture / 1e12, 82.9, atol=0.1)


def test_both_sides_read_the_reduced_model(tmp_path: Path) -> None:
    case = ON_A_PROCESSOR[0]
    cases.write_model(case, tmp_path / "model")
    model = folders.read(tmp_path / "model")
    assert (model.config.unet, model.config.vae) == (case.config.unet, case.config.vae)
    kernel = model.params["unet"]["mid_block"]["resnets"][0]["conv1"]["kernel"]
    assert np.isclose(kernel.std(), (9 * 128) ** -0.5, rtol=0.02)
    assert model.scheduler["_class_name"] == "DDIMScheduler"


def test_rows_of_another_device_stay_and_ours_alone_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    gpu = {"date": "2026-01-01", "hardware": {"device": "1 x some GPU"}}
    earlier = [
        {**each, "provenance": gpu, "share_of_peak": 0.4}
        for each in records(ON_AN_ACCELERATOR[1], sides=1)
    ]
    (tmp_path / "generate.json").write_text(json.dumps({"rows": earlier}), "utf-8")
    for seconds in (3.0, 4.0):
        monkeypatch.setattr(
            generate, "measure", lambda case, compiled, each=seconds: records(case, seconds=each)
        )
        assert generate.main(["sd-reduced/4"]) == 0
    text = (tmp_path / "generate.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| sd")]
    assert len(rows) == 2
    assert "| 1 x some GPU | 0.750 | 40.0% | 60 |  |  | 2026-01-01 |" in rows[0]
    assert "| 1.000 |  | 60 | 2.000 | 2.00 |" in rows[1]
    assert "1.50 by processor time, load 1.0" in rows[1]


def test_a_case_of_no_device_here_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.main(["sd15/3"])
    assert "no case 'sd15/3'" in capsys.readouterr().err
