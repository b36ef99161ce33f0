"""Files of safetensors as this library writes them."""

from pathlib import Path

import numpy as np
from safetensors import safe_open

from kmm_jax.interop.weights import save_tensors


def test_the_same_tensors_and_metadata_are_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": np.arange(6, dtype=np.float16).reshape(2, 3), "a": np.ones(5, np.int32)}
    said = {f'열쇠 {number} "}},\\': f"값 {number}\n\x7f😀{{" for number in range(9)}
    written = set()
    for number in range(8):
        file = tmp_path / f"{number}.safetensors"
        save_tensors(file, tensors, metadata=said)
        written.add(file.read_bytes())
        with safe_open(file, "np") as opened:
            assert opened.metadata() == said
            assert set(opened.keys()) == set(tensors)
            for name, value in tensors.items():
                np.testing.assert_array_equal(opened.get_tensor(name), value)
    assert len(written) == 1


def test_one_key_or_none_is_written_as_well(tmp_path: Path) -> None:
    for metadata in ({}, {"format": "pt"}):
        save_tensors(tmp_path / "x.safetensors", {"a": np.ones(2)}, metadata=metadata)
        with safe_open(tmp_path / "x.safetensors", "np") as opened:
            assert (opened.metadata() or {}) == metadata
