"""Benchmarks in the files that their authors published."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from kmm_jax.data.image_files import ImageFiles
from kmm_jax.errors import DataError
from kmm_jax.evaluation.suite.forms import CLASS, json_of, lines_of
from kmm_jax.evaluation.suite.items import Item, image_item
from kmm_jax.text.classnames import class_set

_FRAME = 2  # pixels of ObjectNet's red frame, and one of what JPEG made of it


def xtd10(folder: Path) -> list[Item]:
    """XTD10 (arXiv 2012.05107): 1,000 COCO images with a caption each in ten languages.

    ``test_image_names.txt``, ``test_1kcaptions_ko.txt`` and ``_en.txt`` side by side; the images
    anywhere below ``images/``.
    """
    names = lines_of(folder / "test_image_names.txt")
    texts = _captions_by_language(folder, "test_1kcaptions_{}.txt", len(names))
    images = ImageFiles(folder / "images")
    return [
        image_item(images, path, texts={lang: (lines[row],) for lang, lines in texts.items()})
        for row, path in enumerate(_by_name(images, names))
    ]


def crossmodal_3600(folder: Path) -> list[Item]:
    """Crossmodal-3600 (arXiv 2205.12522): ``captions.jsonl`` and ``images/KEY.jpg``."""
    file = folder / "captions.jsonl"
    rows = []
    for number, line in enumerate(lines_of(file), start=1):
        try:
            row = json.loads(line)
            texts = {lang: tuple(row[lang]["caption"]) for lang in ("ko", "en") if lang in row}
            rows.append((f"{row['image/key']}.jpg", texts))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file} line {number} is none of Crossmodal-3600: {error}") from error
    images = ImageFiles(folder / "images")
    paths = _by_name(images, [name for name, _ in rows])
    return [
        image_item(images, path, texts=texts) for path, (_, texts) in zip(paths, rows, strict=True)
    ]


def coco_korean(folder: Path) -> list[Item]:
    """COCO's Karpathy test split, 5,000 images, with AI Hub's Korean captions.

    ``dataset_coco.json`` (Karpathy) has the split and the English captions,
    ``MSCOCO_train_val_Korean.json`` (AI Hub) the Korean ones by ``id``; the images lie anywhere
    below ``images/``.
    """
    korean_file = folder / "MSCOCO_train_val_Korean.json"
    korean: dict[int, tuple[str, ...]] = {}
    for row in json_of(korean_file):
        try:
            korean[int(row["id"])] = tuple(row["caption_ko"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{korean_file}: a row without id and caption_ko: {error}") from error
    return _karpathy(folder / "dataset_coco.json", korean)


def flickr30k_korean(folder: Path) -> list[Item]:
    """Flickr30k's Karpathy test split, 1,000 images, with Korean captions.

    ``dataset_flickr30k.json`` (Karpathy) has the split and the English captions,
    ``flickr30k_ko.json`` the Korean ones: ``{"IMAGE.jpg": ["caption", ...]}``; the images lie below
    ``images/``.
    """
    return _karpathy(folder / "dataset_flickr30k.json", json_of(folder / "flickr30k_ko.json"))


def objectnet(folder: Path) -> list[Item]:
    """ObjectNet (Barbu et al., NeurIPS 2019): the images of classes that it shares with ImageNet.

    ``mappings/`` as published, images below ``images/FOLDER/``. Where one of its classes is several
    of ImageNet's, each of them is right: the label holds them all, with ``|`` between. The frame of
    red pixels around each image is cut off.
    """
    of_folder: Mapping[str, str] = json_of(folder / "mappings/folder_to_objectnet_label.json")
    shared = _objectnet_classes(folder / "mappings")
    images = ImageFiles(folder / "images")
    found = []
    for name in images.names():
        keys = shared.get(of_folder.get(PurePosixPath(name).parent.name, ""))
        if keys:
            item = image_item(images, name, labels={CLASS: "|".join(keys)})
            read = functools.partial(_without_frame, item.read)
            found.append(dataclasses.replace(item, read=read))
    return found


def _objectnet_classes(mappings: Path) -> dict[str, list[str]]:
    """The WordNet numbers of those of ObjectNet's classes that ImageNet has.

    Its files name ImageNet's classes by their words; the words are the lines of one file, whose
    numbers another maps ImageNet's usual order to.
    """
    lines = lines_of(mappings / "imagenet_to_label_2012_v2")
    places: Mapping[str, int] = json_of(mappings / "pytorch_to_imagenet_2012_id.json")
    keys = class_set("imagenet1k").keys
    of_words = {lines[int(line)].strip(): keys[int(number)] for number, line in places.items()}
    named: Mapping[str, str] = json_of(mappings / "objectnet_to_imagenet_1k.json")
    try:
        return {
            label: [of_words[words] for words in together.split("; ")]
            for label, together in named.items()
        }
    except KeyError as error:
        raise DataError(f"{mappings}: no class of ImageNet is called {error}") from error


def _without_frame(read: Callable[[], bytes]) -> bytes:
    with Image.open(io.BytesIO(read())) as image:
        width, height = image.size
        inner = image.convert("RGB").crop((_FRAME, _FRAME, width - _FRAME, height - _FRAME))
    encoded = io.BytesIO()
    inner.save(encoded, "BMP")  # without loss, and quick
    return encoded.getvalue()


def food101(folder: Path) -> list[Item]:
    """Food-101 (Bossard et al., ECCV 2014), the test part: ``meta/test.txt`` has CLASS/NUMBER."""
    return _food101(folder, "test")


def food101_train(folder: Path) -> list[Item]:
    """Food-101, the training part."""
    return _food101(folder, "train")


def tiny_imagenet(folder: Path) -> list[Item]:
    """Tiny-ImageNet's validation part: ``val_annotations.txt`` names each image's class."""
    images = ImageFiles(folder / "images")
    rows = [line.split("\t") for line in lines_of(folder / "val_annotations.txt")]
    return [image_item(images, row[0], labels={CLASS: row[1]}) for row in rows]


def _food101(folder: Path, part: str) -> list[Item]:
    images = ImageFiles(folder / "images")
    return [
        image_item(images, f"{line}.jpg", labels={CLASS: line.partition("/")[0]})
        for line in lines_of(folder / f"meta/{part}.txt")
    ]


def _karpathy(splits: Path, korean: Mapping[Any, Sequence[str]]) -> list[Item]:
    """The test rows of one of Karpathy's files; Korean captions by COCO number or file name."""
    rows = []
    try:
        for row in json_of(splits)["images"]:
            if row["split"] == "test":
                said = korean.get(row.get("cocoid", row["filename"]), ())
                english = tuple(sentence["raw"] for sentence in row["sentences"])
                rows.append((row["filename"], {"ko": tuple(said), "en": english}))
    except (KeyError, TypeError) as error:
        raise DataError(f"{splits} is none of Karpathy's splits: {error!r}") from error
    images = ImageFiles(splits.parent / "images")
    paths = _by_name(images, [name for name, _ in rows])
    return [
        image_item(images, path, texts=texts) for path, (_, texts) in zip(paths, rows, strict=True)
    ]


def _captions_by_language(folder: Path, pattern: str, count: int) -> dict[str, list[str]]:
    found = {}
    for lang in ("ko", "en"):
        file = folder / pattern.format(lang)
        if file.is_file():
            found[lang] = lines_of(file)
            if len(found[lang]) != count:
                raise DataError(f"{file} has {len(found[lang])} lines for {count} images")
    return found


def _by_name(images: ImageFiles, names: Sequence[str]) -> list[str]:
    """Where each image lies, by its file name alone."""
    paths = {PurePosixPath(path).name: path for path in images.names()}
    missing = [name for name in names if name not in paths]
    if missing:
        raise DataError(
            f"{images.path} lacks {len(missing):,} of {len(names):,} images, such as {missing[0]}"
        )
    return [paths[name] for name in names]
