"""Slide 4 on real photos: a generator that knows English, driven by Korean (text_to_image.*).

    KMM_DATA_DIR=FOLDER python -m tools.text_to_image                   # a few hours on two cores
    KMM_DATA_DIR=FOLDER python -m tools.text_to_image --rung --work runs/demo   # ten minutes

A small autoencoder, an English text encoder and a UNet are trained on product photos; then Korean
text encoders from parallel texts alone, one for each objective and seed, for the UNet as it is.
What is done is not done again; ``docs/results/text_to_image.*`` is written at the end, with
``--rung`` a page in the work folder.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.models.keys import abstract_module
from tools import results
from tools.text_to_image import page

NAME = "text_to_image"
_STEPS = (4, 8, 10, 20, 25, 50)
_SAMPLERS = ("ddim", "pndm", "euler", "dpmpp", "dpmpp-karras", "unipc")
_SHOWN = 8


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.text_to_image",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="default: KMM_DATA_DIR")
    parser.add_argument("--parallel", type=Path, action="append", help="tables of ko and en")
    parser.add_argument("--work", type=Path, default=Path("runs/text_to_image"))
    parser.add_argument("--autoencoder-steps", type=int, default=1200)
    parser.add_argument("--generator-steps", type=int, default=4000)
    parser.add_argument("--student-steps", type=int, default=1500)
    parser.add_argument("--classifier-steps", type=int, default=1500)
    parser.add_argument("--objectives", default="pooled,position,ends,response,noise")
    parser.add_argument("--seeds", type=int, default=3, help="students of each objective")
    parser.add_argument("--wordings", type=int, default=5, help="prompts of each pair")
    parser.add_argument("--no-steps", action="store_true", help="leave out steps against quality")
    parser.add_argument(
        "--rung", action="store_true", help="short: one seed, two objectives, few prompts"
    )
    arguments = parser.parse_args(argv)
    if arguments.rung:
        _shorten(arguments)
    try:
        return _run(arguments, parser)
    except UserError as error:
        print(f"text_to_image: {error}", file=sys.stderr)
        return 2


def _shorten(arguments: argparse.Namespace) -> None:
    arguments.autoencoder_steps, arguments.generator_steps = 250, 500
    arguments.student_steps, arguments.classifier_steps = 300, 300
    arguments.objectives, arguments.seeds = "pooled,response", 1
    arguments.wordings, arguments.no_steps = 1, True


def _command(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """What was asked, without where data and work lie on this machine."""
    words = ["python -m tools.text_to_image"]
    for name, value in vars(arguments).items():
        if name in ("data", "parallel", "work", "rung") or value == parser.get_default(name):
            continue
        option = f"--{name.replace('_', '-')}"
        words.append(option if value is True else f"{option} {value}")
    return " ".join(words)


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from kmm_jax.training.compile_cache import use_compile_cache
    from tools import generator_runs
    from tools.text_to_image import classifier, data, stages, students

    use_compile_cache()
    folder = arguments.data or Path(os.environ.get("KMM_DATA_DIR", ""))
    if not folder.is_dir():
        raise UserError("name the folder of Fashion Product Images with --data or KMM_DATA_DIR")
    work = arguments.work
    chosen = arguments.objectives.split(",")
    if unknown := [name for name in chosen if name not in students.OBJECTIVES]:
        raise UserError(f"no objective {unknown[0]!r}; there are {', '.join(students.OBJECTIVES)}")
    parallel = arguments.parallel or [p for p in [folder / "text" / "parallel"] if p.is_dir()]
    world = data.world(work, folder, parallel=parallel)
    scale = generator_runs.Scale(
        autoencoder_steps=arguments.autoencoder_steps, generator_steps=arguments.generator_steps
    )
    generator = stages.generator(world, work, scale)
    readers = {
        f"Korean prompt, {name}": [
            students.student(name, world, generator, work, steps=arguments.student_steps, seed=seed)
            for seed in range(arguments.seeds)
        ]
        for name in chosen
    }
    photos = data.labelled(folder, stages.SIZE)
    judge = classifier.classifier(photos, work, steps=arguments.classifier_steps)
    values = _measured(arguments, world, generator, readers, photos, judge)
    if arguments.rung:
        print(page.body(values))
        return 0
    results.write(
        NAME,
        title="Korean text to image",
        command=_command(arguments, parser),
        values=values,
        body=page.body(values),
    )
    return 0


def _measured(
    arguments: argparse.Namespace,
    world: Any,
    generator: Path,
    readers: dict[str, list[Path]],
    photos: Any,
    judge: Any,
) -> dict[str, Any]:
    import numpy as np

    from kmm_jax.data.datasets.fashion_pairs import COLORS, TYPES
    from tools.text_to_image import measure, stages

    keep = arguments.work / "pictures"
    asked = measure.asked(world, each=arguments.wordings)
    places = [
        TYPES.index(type_) * len(COLORS) + COLORS.index(color) for type_, color in asked.pairs
    ]
    same = np.isin(photos.types * len(COLORS) + photos.colors, places)
    real = judge.read(photos.images[same])[0]
    shown: dict[str, np.ndarray] = {}
    order = random.Random(1).sample(range(len(asked.pairs)), min(_SHOWN, len(asked.pairs)))

    def verdict(
        name: str, model: Path, language: str, **options: Any
    ) -> tuple[dict[str, float], dict[str, Any]]:
        images = measure.pictures(model, asked.prompts(language), keep, **options)
        shown.setdefault(name, images[order])
        print(f"{name}: {len(images)} pictures", file=sys.stderr, flush=True)
        return measure.verdict(images, asked, judge, real)

    verdicts = {
        page.ENGLISH: [verdict(page.ENGLISH, generator, "en")],
        page.UNTAUGHT: [verdict(page.UNTAUGHT, generator, "ko")],
        **{
            name: [verdict(name, folder, "ko") for folder in folders]
            for name, folders in readers.items()
        },
    }
    rows = {name: [scores for scores, _ in found] for name, found in verdicts.items()}
    (_, english), *_ = verdicts[page.ENGLISH]
    spread = {
        name: measure.spread([hits for _, hits in found], english, asked)
        for name, found in verdicts.items()
    }
    encoders = _encoders(world, generator, readers, arguments.work / "encoders")
    steps: dict[str, Any] = {}
    if not arguments.no_steps:
        for sampler in _SAMPLERS:
            steps[sampler] = {
                str(count): verdict(
                    f"{sampler} {count}", generator, "en", sampler=sampler, steps=count
                )[0]
                for count in _STEPS
            }
    rows_shown = {name: images for name, images in shown.items() if name in rows}
    prompts = [f"{asked.korean[place]}" for place in order]
    drawing = page.grid(rows_shown, prompts)
    out = arguments.work if arguments.rung else results.FOLDER
    drawing.save(out / f"{NAME}.png", optimize=True)
    _map(asked, generator, readers, out)
    return {
        "size": stages.SIZE,
        "world": {
            "photos": sum(world.counts.values()),
            "held_out": [list(pair) for pair in world.held_out],
            "wordings": world.wordings,
            "sentences": world.sentences,
        },
        "classifier": judge.accuracy,
        "prompts": len(asked.pairs),
        "settings": {
            "sampler": measure.SAMPLER,
            "steps": measure.STEPS,
            "guidance": measure.GUIDANCE,
        },
        "rows": rows,
        "spread": spread,
        "encoders": encoders,
        "steps": steps,
    }


def _encoders(
    world: Any, generator: Path, readers: dict[str, list[Path]], keep: Path
) -> dict[str, list[dict[str, float]]]:
    from kmm_jax.data.datasets.fashion_pairs import COLORS, TYPES
    from kmm_jax.data.datasets.fashion_prompts import Look, draw, plain
    from kmm_jax.evaluation.text_encoders import compare_text_encoders
    from kmm_jax.interop.diffusers import folder as folders
    from tools.text_to_image import measure

    rng = random.Random(2)
    looks = [Look(type=type_, color=color) for type_ in TYPES for color in COLORS]
    pairs = [(draw(rng, look, "ko", "held_out"), plain(look, "en")) for look in looks]
    teacher = folders.read(generator)

    def compared(model: Path) -> dict[str, float]:
        return measure.kept(
            keep / f"{model.name}.json",
            lambda: dict(compare_text_encoders(folders.read(model), teacher, pairs)),
        )

    found = {page.UNTAUGHT: [compared(generator)]}
    for name, models in readers.items():
        found[name] = [compared(model) for model in models]
    return found


def _map(asked: Any, generator: Path, readers: dict[str, list[Path]], out: Path) -> None:
    """The slide's t-SNE: pooled vectors in both languages, by the teacher and by students."""
    import shutil
    import tempfile

    import jax
    import numpy as np
    from flax import nnx

    from kmm_jax.evaluation.embedding_map import Panel, embedding_map
    from kmm_jax.evaluation.map_figure import write_map
    from kmm_jax.interop.diffusers import folder as folders
    from kmm_jax.models.diffusion.text_encoders import text_encoder
    from kmm_jax.models.text import unit

    def panel(title: str, folder: Path) -> Panel:
        model = folders.read(folder)
        config = model.config.texts[0]
        graphdef = nnx.graphdef(abstract_module(lambda rngs: text_encoder(config, rngs=rngs)))

        @jax.jit
        def pooled(params: Any, ids: Any) -> jax.Array:
            return unit(nnx.merge(graphdef, params)(ids).pooled)

        def vectors(texts: Sequence[str]) -> np.ndarray:
            ids = model.tokenizers[0].sequences(texts, None, config.length)
            return np.asarray(pooled(model.params["texts"][0], ids))

        groups = {"English": vectors(asked.english), "Korean": vectors(asked.korean)}
        return Panel(title=title, groups=groups)

    panels = [panel("teacher", generator)]
    panels += [
        panel(name.removeprefix("Korean prompt, "), each[0]) for name, each in readers.items()
    ]
    with tempfile.TemporaryDirectory() as place:
        _, svg, _ = write_map(embedding_map(panels), place)
        shutil.copyfile(svg, out / f"{NAME}_map.svg")


if __name__ == "__main__":
    raise SystemExit(main())
