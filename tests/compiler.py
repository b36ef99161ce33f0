"""The flags that tests give XLA, here and in the processes they start.

Most of their time would otherwise be the compiler's, polishing programs that run once or twice on
arrays of a few numbers; worse code that is ready sooner halves it.
"""

from importlib.metadata import version

FLAGS = ["--xla_backend_optimization_level=0"]
# A flag that XLA does not know ends the process; the versions that know this one are named.
if version("jaxlib").startswith(("0.10.", "0.11.")):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")


def xla_flags(devices: int) -> str:
    """What XLA_FLAGS is to be for a process with so many fake devices."""
    return " ".join([f"--xla_force_host_platform_device_count={devices}", *FLAGS])
