"""The package as a whole: cheap to import, layered, pinned without addresses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import kmm_jax


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_importing_it_takes_less_than_300_ms_and_imports_no_heavy_third_party():
    code = (
        "import time; start = time.perf_counter(); import kmm_jax; "
        "seconds = time.perf_counter() - start; import sys; "
        "print(seconds, *sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    runs = [run(code).stdout.split() for _ in range(3)]
    assert min(float(words[0]) for words in runs) < 0.3
    heavy = {"jax", "jaxlib", "flax", "numpy", "scann", "grain", "PIL", "tensorflow", "torch"}
    assert not heavy & set(runs[0][1:])


def test_the_command_line_is_parsed_without_jax():
    result = run(
        "import sys; from kmm_jax.cli import parser; parser(); print('jax' in sys.modules)"
    )
    assert result.stdout.strip() == "False", result.stderr


def test_help_lists_every_command():
    result = subprocess.run(
        [sys.executable, "-m", "kmm_jax", "--help"], capture_output=True, text=True, check=True
    )
    for command in (
        "train", "models", "data", "tokenizer", "classnames", "evaluate", "heatmap", "embed",
        "index", "search", "quickstart",
    ):  # fmt: skip
        assert re.search(rf"^\s+{command}\b", result.stdout, re.MULTILINE), command


def test_a_wrong_command_exits_with_code_2():
    result = subprocess.run(
        [sys.executable, "-m", "kmm_jax", "trian"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "trian" in result.stderr


def test_rooms_import_only_the_rooms_below_them(repository):
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.skip(f"no import-linter beside {sys.executable}")
    result = subprocess.run(
        [command, "--no-logo"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_pins_are_versions_and_no_addresses(repository):
    for line in (repository / "constraints.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            assert re.match(r"^[A-Za-z0-9_.\-]+==[^ ]+( *; .*)?$", line), line
            assert "://" not in line


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = kmm_jax.laod
