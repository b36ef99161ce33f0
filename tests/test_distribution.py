"""The wheel and the sdist: whole, and enough to install from."""

import subprocess
import sys
import tarfile
import zipfile

import pytest

NEEDED = (
    "kmm_jax/configs/coca/shop.py",
    "kmm_jax/retrieval/rates.json",
    "kmm_jax/text/templates.json",
    "kmm_jax/text/classnames/cifar10.json",
    "kmm_jax/quickstart/report.css",
)


def _build(source, output, kind):
    subprocess.run(
        [sys.executable, "-m", "build", f"--{kind}", "--outdir", str(output), str(source)],
        check=True,
        capture_output=True,
    )


@pytest.mark.slow
def test_a_wheel_built_from_the_sdist_installs_and_runs_elsewhere(repository, tmp_path):
    _build(repository, tmp_path / "dist", "sdist")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    _build(source, tmp_path / "dist", "wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(NEEDED) <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]

    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "-c", repository / "constraints.txt", wheel],
        check=True,
        capture_output=True,
    )
    for arguments in (["models"], ["train", "coca/shop", "--dry-run", "duration=10 steps"]):
        result = subprocess.run(
            [venv / "bin" / "kmm", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
