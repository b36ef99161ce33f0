from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.images import decode
from kmm_jax.data.sources import open_source
from kmm_jax.data.tfds_source import TFDSSource
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.suite.forms import CLASS, TFDS, Places

tfds = pytest.importorskip("tensorflow_datasets")


def png(number: int) -> io.BytesIO:
    content = io.BytesIO()
    Image.new("RGB", (9, 8), (number * 20, 0, 255)).save(content, "PNG")
    content.seek(0)
    return content


class KoreanSwatches(tfds.core.GeneratorBasedBuilder):
    """Plain squares with Korean texts."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos: dict[str, Any] = {}  # noqa: RUF012 (nothing to download, so no checksums to find)

    def _info(self) -> Any:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["빨강", "파랑"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(12):
            yield number, {"image": png(number), "text": f"그림 {number}", "label": number % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    builder = KoreanSwatches(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return folder


def test_every_row_keeps_its_image_text_and_label(prepared: Path) -> None:
    source = open_source(
        f"tfds:korean_swatches/train?caption=text&query=label&labels.type=label&data_dir={prepared}"
    )
    assert len(source) == 12
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(source.read, range(12)))
    numbers = [int(str(row.record["caption"]).split()[1]) for row in rows]
    assert sorted(numbers) == list(range(12))
    for row, number in zip(rows, numbers, strict=True):
        label = ["빨강", "파랑"][number % 2]
        assert row.record["labels"] == {"type": label}
        assert row.record["query"] == [label]
        np.testing.assert_array_equal(decode(row.image, 8)[0, 0], [number * 20, 0, 255])
    assert len({row.key for row in rows}) == 12


def test_part_of_a_split_is_a_split(prepared: Path) -> None:
    source = TFDSSource(
        "korean_swatches", "train[:5]", data_dir=prepared, features={"caption": "text"}
    )
    assert len(source) == 5
    assert source.read(4).record["caption"].startswith("그림")


def test_mistakes_say_what_to_do(prepared: Path) -> None:
    def opened(name: str, split: str, features: dict[str, str]) -> TFDSSource:
        return TFDSSource(name, split, data_dir=prepared, features=features)

    with pytest.raises(DataError, match="prepare it with"):
        opened("no_such_set", "train", {"caption": "text"})
    with pytest.raises(DataError, match="test"):
        opened("korean_swatches", "test", {"caption": "text"})
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        opened("korean_swatches", "train", {"caption": "txet"})
    with pytest.raises(ConfigError, match="which feature holds a text"):
        opened("korean_swatches", "train", {})


def test_the_suite_takes_a_prepared_set_by_the_names_of_its_classes(prepared: Path) -> None:
    places = Places(tfds=prepared)
    found = TFDS(name="korean_swatches", split="train").find(places)
    assert found is not None
    source = found.open()
    assert {source.read(i).record["labels"][CLASS] for i in range(len(source))} == {"빨강", "파랑"}
    assert TFDS(name="imagenet2012", split="validation").find(places) is None
