"""Options of diffusers' schedulers that are not supported, and what to choose instead.

Each would change the images, so that to pass over it would be worse than to stop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kmm_jax.errors import ConfigError

# By class, the values of an option that are supported, the class's default first.
_SIGMAS: dict[str, tuple[Any, ...]] = {
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
}
_FLOW: dict[str, tuple[Any, ...]] = {
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
}
_SUPPORTED: dict[str, dict[str, tuple[Any, ...]]] = {
    "DDIMScheduler": {"thresholding": (False,)},
    "PNDMScheduler": {},
    "EulerDiscreteScheduler": {
        **_SIGMAS,
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
        "sigma_min": (None,),
        "sigma_max": (None,),
    },
    "DPMSolverMultistepScheduler": {
        **_SIGMAS,
        **_FLOW,
        "thresholding": (False,),
        "algorithm_type": ("dpmsolver++", "deis"),
        "use_lu_lambdas": (False,),
        "variance_type": (None,),
    },
    "UniPCMultistepScheduler": {
        **_SIGMAS,
        **_FLOW,
        "thresholding": (False,),
        "predict_x0": (True,),
        "solver_p": (None,),
        "sigma_min": (None,),
        "sigma_max": (None,),
        "shift_terminal": (None,),
    },
    "LCMScheduler": {"thresholding": (False,)},
}


def refuse_unsupported(class_name: str, said: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first option in ``said`` that would need what is not there."""
    for key, supported in _SUPPORTED[class_name].items():
        if key in said and said[key] not in supported:
            raise ConfigError(
                f"{class_name}: {key} = {said[key]!r} is not supported; {_choice(supported)}"
            )
    if class_name == "PNDMScheduler" and not said.get("skip_prk_steps", False):
        raise ConfigError(
            "PNDMScheduler: skip_prk_steps is false (its default), and Runge-Kutta steps are not "
            "supported; set skip_prk_steps to true, or name the sampler pndm to run without them"
        )


def _choice(supported: Collection[Any]) -> str:
    names = [repr(value) for value in supported if value is not None]
    return f"choose {' or '.join(names)}" if names else "leave it out"
