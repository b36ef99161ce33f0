"""Which process of how many this is: from flags, or from the launcher's environment.

Every launcher says it in words of its own; this is the one place that knows them. A launcher whose
words are incomplete or contradict each other is an error that names them: a process that guesses
trains alone, and eight such runs look like one until the bill comes.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping

from kmm_jax.errors import ConfigError

DEFAULT_PORT = 8476
# A dead process is noticed after this; the others then end instead of waiting in a collective.
HEARTBEAT_SECONDS = 30
_START_SECONDS = 600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """This process's place among those that train together.

    Attributes:
        source: where it is known from, for people.
        coordinator: ``host:port`` of process 0.
        index: of this process, from 0.
        count: of processes.
        local_index: among those of this host; None where a host has one process.
        slice_index: of the TPU slice or JobSet job; None where there is one.
    """

    source: str
    coordinator: str
    index: int
    count: int
    local_index: int | None = None
    slice_index: int | None = None

    def __str__(self) -> str:
        local = "" if self.local_index is None else f", number {self.local_index} on its host"
        slice_ = "" if self.slice_index is None else f", slice {self.slice_index}"
        return (
            f"process {self.index} of {self.count} ({self.source}{local}{slice_}), "
            f"coordinator {self.coordinator}"
        )


def discover(
    environment: Mapping[str, str],
    *,
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
) -> Processes | None:
    """This process's place, or None if it is alone.

    Explicit values win over the environment. Of the environment's launchers the first that is there
    counts: ``KMM_*`` variables, a Kubernetes JobSet or indexed Job, Slurm, Open MPI, a TPU pod.

    Args:
        environment: such as ``os.environ``.
        coordinator, count, index: what flags say; all three or, with a launcher, the coordinator
            alone.

    Raises:
        ConfigError: what is said is incomplete, is no number, or does not fit together.
    """
    given = {"--coordinator": coordinator, "--processes": count, "--process": index}
    if count is not None or index is not None:
        missing = [flag for flag, value in given.items() if value is None]
        if missing and not (count == 1 and index in (None, 0)):
            raise ConfigError(
                f"{', '.join(flag for flag in given if flag not in missing)} given without "
                f"{', '.join(missing)}; give all three, or none inside Slurm, JobSet, Open MPI or "
                "a TPU pod"
            )
        if count == 1:
            return None
        assert coordinator is not None and count is not None and index is not None
        return _checked(
            Processes(source="flags", coordinator=coordinator, index=index, count=count)
        )
    for launcher in _LAUNCHERS:
        found = launcher(environment)
        if found is not None:
            if coordinator is not None:
                found = dataclasses.replace(found, coordinator=coordinator)
            return None if found.count == 1 else _checked(found)
    if coordinator is not None:
        raise ConfigError(
            "--coordinator is given, but neither --processes and --process nor a launcher's "
            "environment says which process this is"
        )
    return None


def start(processes: Processes) -> None:
    """Join the others; returns once all are there. Call before anything asks for devices.

    One process per GPU and one per host both work: with several processes on a host, each takes the
    GPU of its number, unless the launcher shows it one alone. On CPUs collectives go over gloo.

    Raises:
        ConfigError: the coordinator cannot be reached or not all processes came in time.
    """
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator_address=processes.coordinator,
            num_processes=processes.count,
            process_id=processes.index,
            local_device_ids=own_device(processes, os.environ),
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            slice_index=processes.slice_index,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"{processes} could not join the others: {error}. Does process 0 run, is its host "
            "reachable under that name, and is the port free?"
        ) from error


def own_device(processes: Processes, environment: Mapping[str, str]) -> int | None:
    """Which of the host's devices this process takes; None for all it sees."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        shown = environment.get(name)
        if shown is not None and len(shown.split(",")) == 1:
            return None  # the launcher has bound it (srun --gpus-per-task=1)
    return processes.local_index


def _checked(processes: Processes) -> Processes:
    if not 0 <= processes.index < processes.count:
        raise ConfigError(
            f"{processes.source} says this is process {processes.index} of {processes.count}; "
            f"processes count from 0 to {processes.count - 1}"
        )
    if not re.fullmatch(r".+:\d+", processes.coordinator):
        raise ConfigError(
            f"{processes.source}: the coordinator is {processes.coordinator!r}; it must be "
            f"HOST:PORT, such as {processes.coordinator.partition(':')[0] or 'node001'}:"
            f"{DEFAULT_PORT}"
        )
    return processes


class _Words:
    """A launcher's variables, read with errors that name them."""

    def __init__(self, launcher: str, environment: Mapping[str, str]) -> None:
        self.launcher = launcher
        self._environment = environment

    def text(self, name: str, *, why: str = "") -> str:
        value = self._environment.get(name, "")
        if not value:
            raise ConfigError(
                f"this looks like {self.launcher}, but {name} is not set{why and '; ' + why}"
            )
        return value

    def number(self, name: str, *, why: str = "") -> int:
        value = self.text(name, why=why)
        if not re.fullmatch(r"\d+", value):
            raise ConfigError(f"{self.launcher}: {name} is {value!r}, no number")
        return int(value)


def _kmm(environment: Mapping[str, str]) -> Processes | None:
    """``launch/local.sh`` and whoever has no launcher of these."""
    names = ("KMM_COORDINATOR", "KMM_PROCESSES", "KMM_PROCESS")
    if not any(environment.get(name) for name in names):
        return None
    words = _Words("an environment with KMM_ variables", environment)
    local = environment.get("KMM_LOCAL_PROCESS")
    return Processes(
        source="KMM_PROCESS and others",
        coordinator=words.text("KMM_COORDINATOR"),
        index=words.number("KMM_PROCESS"),
        count=words.number("KMM_PROCESSES"),
        local_index=words.number("KMM_LOCAL_PROCESS") if local else None,
    )


def _jobset(environment: Mapping[str, str]) -> Processes | None:
    """A JobSet of indexed Jobs, one a slice, or a single indexed Job (``launch/jobset.yaml``).

    Kubernetes itself sets JOB_COMPLETION_INDEX only; the manifest passes the rest from the pod's
    labels and its own numbers.
    """
    if "JOB_COMPLETION_INDEX" not in environment:
        return None
    words = _Words("a Kubernetes indexed Job", environment)
    why = "the manifest must pass it, see launch/jobset.yaml"
    pods = words.number("JOB_COMPLETIONS", why=why)
    slices = words.number("JOBSET_JOBS") if "JOBSET_JOBS" in environment else 1
    slice_index = words.number("JOBSET_JOB_INDEX", why=why) if slices > 1 else 0
    pod = words.number("JOB_COMPLETION_INDEX")
    if pod >= pods or slice_index >= slices:
        raise ConfigError(
            f"a Kubernetes indexed Job: pod {pod} of JOB_COMPLETIONS={pods} in job {slice_index} "
            f"of JOBSET_JOBS={slices}; the manifest's numbers are not those it runs with"
        )
    return Processes(
        source="JobSet" if slices > 1 else "an indexed Job",
        coordinator=words.text("JOBSET_COORDINATOR", why=why),
        index=slice_index * pods + pod,
        count=slices * pods,
        slice_index=slice_index if slices > 1 else None,
    )


def _slurm(environment: Mapping[str, str]) -> Processes | None:
    if "SLURM_JOB_ID" not in environment or "SLURM_PROCID" not in environment:
        return None
    words = _Words("a Slurm step", environment)
    if "SLURM_STEP_ID" not in environment:
        # The batch script itself: it has the job's variables and is no task of it.
        if environment.get("SLURM_NTASKS", "1") == "1":
            return None
        raise ConfigError(
            f"the Slurm job has {environment['SLURM_NTASKS']} tasks, but this process is the "
            "batch script itself; start it with srun, as launch/slurm.sbatch does"
        )
    count = words.number("SLURM_STEP_NUM_TASKS")
    local = words.number("SLURM_LOCALID")
    nodes = words.number("SLURM_STEP_NUM_NODES")
    port = 2**16 - 2**12 + words.number("SLURM_JOB_ID") % 2**12  # two jobs on a node keep apart
    return Processes(
        source="Slurm",
        coordinator=f"{first_host(words.text('SLURM_STEP_NODELIST'))}:{port}",
        index=words.number("SLURM_PROCID"),
        count=count,
        local_index=local if count > nodes else None,
    )


def first_host(nodes: str) -> str:
    """The first of a Slurm list of hosts: ``gpu[001-004,7],x`` begins with ``gpu001``.

    Raises:
        ConfigError: it is no such list.
    """
    match = re.match(r"^([^\[\],]*)(?:\[(\w+)[^\]]*\])?([^\[\],]*)", nodes)
    host = "" if match is None else "".join(part or "" for part in match.groups())
    if not host or nodes.count("[") != nodes.count("]"):
        raise ConfigError(f"Slurm's list of hosts cannot be read: {nodes!r}")
    return host


def _open_mpi(environment: Mapping[str, str]) -> Processes | None:
    if "OMPI_COMM_WORLD_SIZE" not in environment and "OMPI_COMM_WORLD_RANK" not in environment:
        return None
    words = _Words("Open MPI", environment)
    count, local_count = (
        words.number("OMPI_COMM_WORLD_SIZE"),
        words.number("OMPI_COMM_WORLD_LOCAL_SIZE"),
    )
    coordinator = f"localhost:{DEFAULT_PORT}"
    if count > local_count:
        address = environment.get("MASTER_ADDR") or _mpi_head(environment)
        if not address:
            raise ConfigError(
                "Open MPI runs on several hosts and does not say where process 0 is: give "
                "--coordinator HOST:PORT, or mpirun -x MASTER_ADDR=HOST"
            )
        coordinator = f"{address}:{environment.get('MASTER_PORT', DEFAULT_PORT)}"
    return Processes(
        source="Open MPI",
        coordinator=coordinator,
        index=words.number("OMPI_COMM_WORLD_RANK"),
        count=count,
        local_index=words.number("OMPI_COMM_WORLD_LOCAL_RANK") if local_count > 1 else None,
    )


def _mpi_head(environment: Mapping[str, str]) -> str | None:
    """The host of mpirun, which Open MPI 4 tells as ``1531576320.0;tcp://10.0.0.1,10.1.0.1:5311``."""
    match = re.search(r"(?:tcp|tcp4)://([^,:;]+)", environment.get("OMPI_MCA_orte_hnp_uri", ""))
    return match.group(1) if match else None


def _tpu_pod(environment: Mapping[str, str]) -> Processes | None:
    names = ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES")
    if not any(environment.get(name) for name in names):
        return None
    words = _Words("a TPU pod", environment)
    hosts = [host for host in words.text("TPU_WORKER_HOSTNAMES").split(",") if host]
    worker = words.number("TPU_WORKER_ID")
    slices = words.number("MEGASCALE_NUM_SLICES") if "MEGASCALE_NUM_SLICES" in environment else 1
    if worker >= len(hosts):
        raise ConfigError(
            f"a TPU pod: TPU_WORKER_ID is {worker}, but TPU_WORKER_HOSTNAMES names {len(hosts)}"
        )
    slice_index, head = 0, hosts[0]
    if slices > 1:
        slice_index = words.number("MEGASCALE_SLICE_ID")
        head = words.text("MEGASCALE_COORDINATOR_ADDRESS").partition(":")[0]
    return Processes(
        source="a TPU pod" if slices == 1 else "TPU slices",
        coordinator=f"{head}:{DEFAULT_PORT}",
        index=slice_index * len(hosts) + worker,
        count=slices * len(hosts),
        slice_index=slice_index if slices > 1 else None,
    )


_LAUNCHERS: tuple[Callable[[Mapping[str, str]], Processes | None], ...] = (
    _kmm,
    _jobset,
    _slurm,
    _open_mpi,
    _tpu_pod,
)
