"""``kmm generate``: pictures from prompts."""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli.arguments import add_base
from kmm_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from kmm_jax.generation.pipeline import Generated, Pipeline
    from kmm_jax.generation.request import Request

_DTYPES = ("float32", "bfloat16")
_SAMPLERS = ("ddim", "pndm", "euler", "dpmpp", "dpmpp-karras", "unipc", "lcm")


def add(commands: Any) -> None:
    """Add ``kmm generate``."""
    command = commands.add_parser(
        "generate",
        help="make pictures from prompts",
        description="Make pictures with a Stable Diffusion: a folder as diffusers saves it, or one "
        "file. Each PNG says inside how it was made. No safety filter runs unless --safety names a "
        "model.",
    )
    command.add_argument(
        "model",
        metavar="MODEL",
        help="a folder of diffusers, a single file (.safetensors), or a run of a generator",
    )
    command.add_argument(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help='such as "물 속을 헤엄치는 바다거북, 4K"; several make several pictures',
    )
    add_base(command)
    command.add_argument("--prompt-set", metavar="NAME", help="prompts that ship: talk, steps")
    command.add_argument("--output", type=Path, default=Path("generated"), metavar="DIR")
    command.add_argument(
        "--negative", metavar="TEXT", help="what to guide away from; for all prompts"
    )
    command.add_argument("--count", type=int, default=1, metavar="N", help="pictures a prompt")
    command.add_argument("--scheduler", choices=_SAMPLERS, help="default: the model's own")
    command.add_argument("--steps", type=int, default=25)
    command.add_argument("--guidance", type=float, default=7.5)
    command.add_argument("--seed", type=int, default=0, help="of the first picture")
    command.add_argument("--height", type=int, metavar="PIXELS")
    command.add_argument("--width", type=int, metavar="PIXELS")
    command.add_argument(
        "--clip-skip", type=int, default=0, metavar="N", help="last layers of the text encoder"
    )
    command.add_argument("--eta", type=float, default=0.0, help="DDIM's share of fresh noise")
    command.add_argument(
        "--image",
        type=Path,
        help="start from this picture, scaled to --height and --width if given",
    )
    command.add_argument("--strength", type=float, default=0.8, help="how far to go from it")
    command.add_argument("--mask", type=Path, help="white where the picture is made anew")
    command.add_argument(
        "--latents",
        type=Path,
        metavar="FILE.npy",
        help="your own noise to start from, standard normal",
    )
    command.add_argument(
        "--save-latents",
        action="store_true",
        help="keep what a PNG was decoded from beside it, as .npy",
    )
    command.add_argument("--dtype", choices=_DTYPES, default="bfloat16", help="of the networks")
    command.add_argument("--variant", metavar="NAME", help="of the weights' files, such as fp16")
    command.add_argument(
        "--lora",
        action="append",
        metavar="FILE[=SCALE]",
        help="merge a LoRA (.safetensors of peft, diffusers or kohya) into the model; repeat it",
    )
    command.add_argument("--tile", type=int, default=0, metavar="LATENTS", help="decode in tiles")
    command.add_argument(
        "--grid",
        choices=("steps",),
        help="one picture of all: prompts down, 4 to 50 steps across (slides 4.3)",
    )
    command.add_argument(
        "--compile-only",
        action="store_true",
        help="compile what these options need into JAX's compile cache, and make no picture; "
        "without prompts for --count pictures",
    )
    command.add_argument(
        "--safety",
        metavar="MODEL",
        help="black out what this CLIP finds too near to --safety-concept; off by default",
    )
    command.add_argument(
        "--safety-concept",
        action="append",
        metavar="TEXT=COSINE",
        help='such as "nudity=0.25"; repeat it',
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, generate, write."""
    from kmm_jax.generation.prompt_sets import prompt_set

    prompts = tuple(arguments.prompts)
    if arguments.prompt_set:
        prompts += prompt_set(arguments.prompt_set)
    if not prompts and arguments.compile_only:
        prompts = ("",)
    if not prompts:
        raise UserError("no prompt: give one or more, or --prompt-set talk")
    loras = [_lora(each) for each in arguments.lora or ()]
    safety = _safety(arguments)
    image, mask = _picture(arguments.image), _mask(arguments.mask)
    request = _request(arguments, prompts, image, mask)
    from kmm_jax.generation.loading import load_pipeline
    from kmm_jax.training.compile_cache import use_compile_cache

    use_compile_cache()
    pipeline = load_pipeline(
        arguments.model,
        base=arguments.base,
        dtype=arguments.dtype,
        variant=arguments.variant,
        loras=loras,
    )
    if arguments.compile_only:
        return _compiled(arguments, pipeline, request)
    if safety is None:
        print("no safety filter runs: look at pictures before you show them", file=sys.stderr)
    if arguments.grid:
        return _grid(arguments, pipeline, request, safety)
    found = _with_progress(pipeline, request, arguments.tile, f"{request.pictures} pictures")
    for path in _written(arguments, found, safety):
        print(path)
    return 0


def _request(
    arguments: argparse.Namespace, prompts: tuple[str, ...], image: Any, mask: Any
) -> Request:
    from kmm_jax.generation.request import Request

    return Request(
        prompts=prompts,
        negative=arguments.negative,
        per_prompt=arguments.count,
        sampler=arguments.scheduler,
        steps=arguments.steps,
        guidance=arguments.guidance,
        height=arguments.height,
        width=arguments.width,
        seeds=arguments.seed,
        skip=arguments.clip_skip,
        eta=arguments.eta,
        image=image,
        strength=arguments.strength,
        mask=mask,
        latents=_latents(arguments.latents),
    )


def _compiled(arguments: argparse.Namespace, pipeline: Pipeline, request: Request) -> int:
    began = time.monotonic()
    count = pipeline.compile(request, progress=True, tile=arguments.tile)
    print(f"{count} programs in {time.monotonic() - began:.1f} s")
    return 0


def _with_progress(pipeline: Pipeline, request: Request, tile: int, what: str) -> Generated:
    from kmm_jax.training.progress import Progress

    bar: Progress | None = None
    began = 0.0

    def show(done: int, steps: int) -> None:
        nonlocal bar, began
        if bar is None:
            bar, began = Progress(what, steps), time.monotonic()
        left = (time.monotonic() - began) / max(1, done - 1) * (steps - done)
        bar.update(done, {"speed/eta_seconds": left} if done > 1 else {})

    try:
        return pipeline.generate(request, progress=show, tile=tile)
    finally:
        if bar is not None:
            bar.close()


def _written(arguments: argparse.Namespace, found: Generated, safety: Any) -> list[Path]:
    import numpy as np

    from kmm_jax.files import atomic_write
    from kmm_jax.generation.picture_file import write_picture
    from kmm_jax.generation.safety import blackened

    images, flags = blackened(found.images, safety, _tell_blackened)
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = []
    first = _first_free(arguments.output)
    for number, (image, settings, flag) in enumerate(
        zip(images, found.settings, flags, strict=True)
    ):
        path = arguments.output / f"{first + number:03d}-seed{settings['seed']}.png"
        write_picture(path, image, {**settings, "blackened": flag} if safety else settings)
        if arguments.save_latents:
            with atomic_write(path.with_suffix(".npy")) as file:
                np.save(file, found.latents[number])
        written.append(path)
    return written


def _first_free(folder: Path) -> int:
    """The number to go on from, so that no earlier picture is lost."""
    named = (re.match(r"(\d+)-seed", path.name) for path in folder.iterdir())
    return max((int(each[1]) + 1 for each in named if each), default=0)


def _grid(arguments: argparse.Namespace, pipeline: Pipeline, request: Request, safety: Any) -> int:
    from kmm_jax.generation.grid import steps_grid
    from kmm_jax.generation.picture_file import write_picture
    from kmm_jax.generation.safety import blackened

    def make(request: Request) -> tuple[np.ndarray, dict[str, Any]]:
        found = _with_progress(pipeline, request, arguments.tile, f"{request.steps} steps")
        return blackened(found.images, safety, _tell_blackened)[0], found.settings[0]

    picture, settings = steps_grid(make, request)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = (
        arguments.output / f"{_first_free(arguments.output):03d}-seed{settings['seed']}-steps.png"
    )
    write_picture(path, picture, settings)
    print(path)
    return 0


def _tell_blackened(count: int) -> None:
    print(f"the safety filter blackened {count} pictures", file=sys.stderr)


def _safety(arguments: argparse.Namespace) -> Any:
    if not arguments.safety:
        if arguments.safety_concept:
            raise UserError("--safety-concept needs --safety MODEL, a CLIP to look with")
        return None
    concepts = parse_concepts(arguments.safety_concept)
    from kmm_jax.generation.safety import ConceptFilter
    from kmm_jax.inference import load

    return ConceptFilter(load(arguments.safety), concepts)


def parse_concepts(given: Sequence[str] | None) -> dict[str, float]:
    """Cosines by concept, of ``--safety-concept``."""
    concepts: dict[str, float] = {}
    for each in given or ():
        text, _, limit = each.rpartition("=")
        try:
            concepts[text.strip()] = float(limit)
        except ValueError:
            raise UserError(f"--safety-concept {each!r}: write TEXT=COSINE, nudity=0.25") from None
    return concepts


def _lora(given: str) -> tuple[Path, float]:
    """A file, which may have a ``=`` in its name, and how much of it is merged."""
    name, _, number = given.rpartition("=")
    try:
        scale = float(number)
    except ValueError:
        name, scale = given, 1.0
    if Path(given).exists() or not name:
        name, scale = given, 1.0
    if not math.isfinite(scale):
        raise UserError(f"--lora {given!r}: the scale after = must be a number, such as 0.8")
    if not Path(name).exists():
        raise UserError(
            f"--lora {name}: no such file; write FILE or FILE=SCALE, style.safetensors=0.8"
        )
    return Path(name), scale


def _picture(path: Path | None) -> np.ndarray | None:
    if path is None:
        return None
    import numpy as np

    from kmm_jax.data.images import open_rgb

    if not path.is_file():
        raise UserError(f"--image {path} is no file")
    return np.asarray(open_rgb(path.read_bytes(), 4096))


def _mask(path: Path | None) -> np.ndarray | None:
    found = _picture(path)
    return None if found is None else found.mean(axis=-1) >= 128


def _latents(path: Path | None) -> np.ndarray | None:
    if path is None:
        return None
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("it holds several; save one with numpy.save")
        return found
    except (OSError, ValueError) as error:
        raise UserError(f"--latents {path} is no array of NumPy: {error}") from error
