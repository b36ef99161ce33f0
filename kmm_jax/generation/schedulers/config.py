"""A sampler with its noise schedule, read from and written to diffusers' ``scheduler_config.json``.

Each sampler is a dataclass whose fields bear the names of the file and whose defaults are those of
diffusers' class of the same solver, since a file may leave a key out: the same file means leading
time steps for DDIM and evenly spaced ones for DPM-Solver++. So another sampler is the same file
read as another class (diffusers' ``from_config``), and what the file says is kept for that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from kmm_jax.errors import ConfigError, nearest
from kmm_jax.generation.schedulers.refusals import refuse_unsupported
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule

Spacing = Literal["leading", "linspace", "trailing"]
FinalSigma = Literal["zero", "sigma_min"]


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """Denoising diffusion implicit models (arXiv 2010.02502)."""

    class_name: ClassVar[str] = "DDIMScheduler"
    timestep_spacing: Spacing = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    clip_sample: bool = True
    clip_sample_range: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PNDM:
    """Pseudo linear multistep (PLMS), PNDM without its Runge-Kutta steps (arXiv 2202.09778)."""

    class_name: ClassVar[str] = "PNDMScheduler"
    timestep_spacing: Spacing = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = False


@dataclass(frozen=True, kw_only=True)
class Euler:
    """Euler's method in the noise-to-signal ratio (Karras et al., arXiv 2206.00364)."""

    class_name: ClassVar[str] = "EulerDiscreteScheduler"
    timestep_spacing: Spacing = "linspace"
    steps_offset: int = 0
    use_karras_sigmas: bool = False
    final_sigmas_type: FinalSigma = "zero"


@dataclass(frozen=True, kw_only=True)
class DPMSolver:
    """DPM-Solver++ multistep, of order 1, 2 (2M) or 3 (arXiv 2211.01095)."""

    class_name: ClassVar[str] = "DPMSolverMultistepScheduler"
    timestep_spacing: Spacing = "linspace"
    steps_offset: int = 0
    use_karras_sigmas: bool = False
    final_sigmas_type: FinalSigma = "zero"
    solver_order: int = 2
    solver_type: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float = -float("inf")


@dataclass(frozen=True, kw_only=True)
class UniPC:
    """The unified predictor-corrector of order 1 to 3 (arXiv 2302.04867)."""

    class_name: ClassVar[str] = "UniPCMultistepScheduler"
    timestep_spacing: Spacing = "linspace"
    steps_offset: int = 0
    use_karras_sigmas: bool = False
    final_sigmas_type: FinalSigma = "zero"
    solver_order: int = 2
    solver_type: Literal["bh1", "bh2"] = "bh2"
    lower_order_final: bool = True
    disable_corrector: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LCM:
    """Multistep consistency sampling of a latent consistency model (arXiv 2310.04378)."""

    class_name: ClassVar[str] = "LCMScheduler"
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    clip_sample: bool = False
    clip_sample_range: float = 1.0


Sampler = DDIM | PNDM | Euler | DPMSolver | UniPC | LCM

_CLASSES: dict[str, type[Sampler]] = {
    kind.class_name: kind for kind in (DDIM, PNDM, Euler, DPMSolver, UniPC, LCM)
}

# What each name of the command line is, and what it says whatever the file says.
_NAMES: dict[str, tuple[type[Sampler], dict[str, Any]]] = {
    "ddim": (DDIM, {}),
    "pndm": (PNDM, {"skip_prk_steps": True}),
    "euler": (Euler, {}),
    "dpmpp": (DPMSolver, {"use_karras_sigmas": False, "algorithm_type": "dpmsolver++"}),
    "dpmpp-karras": (DPMSolver, {"use_karras_sigmas": True, "algorithm_type": "dpmsolver++"}),
    "unipc": (UniPC, {"predict_x0": True}),
    "lcm": (LCM, {}),
}

SAMPLERS: tuple[str, ...] = tuple(_NAMES)
"""The samplers by their names on the command line."""

# Solver types of one multistep class that diffusers takes for another's.
_SOLVER_TYPES: dict[type[Sampler], dict[str, str]] = {
    DPMSolver: {"bh1": "midpoint", "bh2": "midpoint", "logrho": "midpoint"},
    UniPC: {"midpoint": "bh2", "heun": "bh2", "logrho": "bh2"},
}

# Fields of the noise schedule by their keys in the file, with diffusers' defaults.
_NOISE_KEYS: dict[str, tuple[str, Any]] = {
    "num_train_timesteps": ("training_steps", 1000),
    "beta_schedule": ("beta_schedule", "linear"),
    "beta_start": ("beta_start", 0.0001),
    "beta_end": ("beta_end", 0.02),
    "trained_betas": ("trained_betas", None),
    "rescale_betas_zero_snr": ("rescale_zero_snr", False),
    "prediction_type": ("prediction", "epsilon"),
}
_LCM_NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """A sampler and the noise schedule that it runs on; ``file`` is what they were read from."""

    noise: NoiseSchedule
    sampler: Sampler
    file: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.noise, self.sampler)


def parse(file: Mapping[str, Any], sampler: str | None = None) -> SchedulerConfig:
    """Read a ``scheduler_config.json``, with its own sampler or with another (`SAMPLERS`).

    With another sampler the noise schedule is the file's, and of the rest what both classes know;
    so a file of a class that is not supported serves as well.

    Raises:
        ConfigError: a sampler, an option or a value that is not supported.
    """
    kind, says = _kind(file, sampler)
    said = {**file, **says}
    refuse_unsupported(kind.class_name, said)
    # Of the class that wrote the file: another sampler changes no noise schedule.
    defaults = _LCM_NOISE if file.get("_class_name", kind.class_name) == LCM.class_name else {}
    noise: dict[str, Any] = {}
    for key, (name, default) in _NOISE_KEYS.items():
        value = said.get(key, defaults.get(key, default))
        noise[name] = tuple(value) if isinstance(value, (list, tuple)) else value
    options = {name: said[name] for name in _fields(kind) if name in said}
    if "solver_type" in options:
        renamed = _SOLVER_TYPES[kind].get(options["solver_type"], options["solver_type"])
        options["solver_type"] = renamed
    if "disable_corrector" in options:
        options["disable_corrector"] = tuple(options["disable_corrector"])
    return SchedulerConfig(noise=NoiseSchedule(**noise), sampler=kind(**options), file=dict(file))


def for_sampler(config: SchedulerConfig, name: str) -> SchedulerConfig:
    """The same noise schedule with another sampler (one of `SAMPLERS`)."""
    switched = parse(config.file or to_file(config), name)
    return dataclasses.replace(switched, noise=config.noise)


def name_of(sampler: Sampler) -> str:
    """The name on the command line (of `SAMPLERS`) that a sampler is chosen by."""
    karras = getattr(sampler, "use_karras_sigmas", False)
    return next(
        name
        for name, (kind, says) in _NAMES.items()
        if kind is type(sampler) and says.get("use_karras_sigmas", karras) == karras
    )


def to_file(config: SchedulerConfig) -> dict[str, Any]:
    """The ``scheduler_config.json`` from which diffusers makes the same scheduler."""
    said: dict[str, Any] = {"_class_name": config.sampler.class_name}
    for key, (name, _) in _NOISE_KEYS.items():
        value = getattr(config.noise, name)
        said[key] = list(value) if isinstance(value, tuple) else value
    for name in _fields(type(config.sampler)):
        value = getattr(config.sampler, name)
        said[name] = list(value) if isinstance(value, tuple) else value
    if said.get("lambda_min_clipped") == -float("inf"):
        del said["lambda_min_clipped"]  # the default, which JSON has no number for
    if isinstance(config.sampler, PNDM):
        # Its class has no such option, and always the steps that are not done here.
        del said["rescale_betas_zero_snr"]
        said["skip_prk_steps"] = True
    return said


def _kind(file: Mapping[str, Any], sampler: str | None) -> tuple[type[Sampler], dict[str, Any]]:
    if sampler is not None:
        if sampler not in _NAMES:
            raise ConfigError(f"no sampler is called {sampler!r}{nearest(sampler, SAMPLERS)}")
        return _NAMES[sampler]
    seen = file.get("_class_name")
    if seen not in _CLASSES:
        raise ConfigError(
            f"the scheduler's _class_name is {seen!r}; supported are {', '.join(_CLASSES)}. "
            f"Name a sampler to run on its noise schedule: {', '.join(SAMPLERS)}"
        )
    return _CLASSES[seen], {}


def _fields(kind: type[Sampler]) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


def _check(noise: NoiseSchedule, sampler: Sampler) -> None:
    for name, hint in get_type_hints(type(sampler)).items():
        value = getattr(sampler, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ConfigError(
                f"{sampler.class_name}: {name} is {value!r}{nearest(str(value), get_args(hint))}"
            )
    order = getattr(sampler, "solver_order", 1)
    if order not in (1, 2, 3):
        raise ConfigError(f"{sampler.class_name}: solver_order is {order}; choose 1, 2 or 3")
    if isinstance(sampler, PNDM) and noise.rescale_zero_snr:
        raise ConfigError(
            "PNDMScheduler cannot start from zero terminal SNR (rescale_betas_zero_snr); choose "
            "ddim, euler, dpmpp or unipc"
        )
    if isinstance(sampler, PNDM) and noise.prediction == "sample":
        raise ConfigError(
            "PNDMScheduler: prediction_type 'sample' is not supported; choose ddim, euler, dpmpp, "
            "unipc or lcm"
        )
    if isinstance(sampler, UniPC):
        _check_last_step(sampler)


def _check_last_step(sampler: UniPC) -> None:
    final, karras = sampler.final_sigmas_type, sampler.use_karras_sigmas
    if final == "zero" and not sampler.lower_order_final:
        raise ConfigError(
            "UniPCMultistepScheduler: with final_sigmas_type 'zero' the last step is infinitely "
            "long and of order 1 only; set lower_order_final to true, or final_sigmas_type to "
            "'sigma_min'"
        )
    if final == "sigma_min" and karras:
        raise ConfigError(
            "UniPCMultistepScheduler: with use_karras_sigmas and final_sigmas_type 'sigma_min' the "
            "last step has no length; set final_sigmas_type to 'zero'"
        )
