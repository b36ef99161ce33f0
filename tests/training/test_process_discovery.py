"""What each launcher's environment says, whole, partial and wrong."""

import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.training.processes import Processes, discover, first_host, own_device

KMM = {"KMM_COORDINATOR": "localhost:9000", "KMM_PROCESSES": "4", "KMM_PROCESS": "3"}
JOBSET = {
    "JOB_COMPLETION_INDEX": "1",
    "JOB_COMPLETIONS": "4",
    "JOBSET_JOBS": "2",
    "JOBSET_JOB_INDEX": "1",
    "JOBSET_COORDINATOR": "run-slice-0-0.run:8476",
}
SLURM = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "16",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[007-008]",
}
MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "2",
}
TPU = {"TPU_WORKER_ID": "2", "TPU_WORKER_HOSTNAMES": "t0,t1,t2,t3"}


def without(environment, name):
    return {key: value for key, value in environment.items() if key != name}


def test_a_process_without_a_launcher_is_alone():
    assert discover({"HOME": "/root", "PATH": "/bin"}) is None


@pytest.mark.parametrize(
    ("environment", "coordinator", "index", "count", "local", "slice_index"),
    [
        (KMM, "localhost:9000", 3, 4, None, None),
        (KMM | {"KMM_LOCAL_PROCESS": "1"}, "localhost:9000", 3, 4, 1, None),
        (JOBSET, "run-slice-0-0.run:8476", 5, 8, None, 1),
        (
            JOBSET | {"JOBSET_JOBS": "1", "JOB_COMPLETION_INDEX": "3"},
            "run-slice-0-0.run:8476", 3, 4, None, None,
        ),
        (SLURM, "gpu007:62016", 9, 16, 1, None),
        # One process a host: it takes all the host's devices.
        (SLURM | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, "gpu007:62016", 1, 2, None,
         None),
        (MPI, "localhost:8476", 2, 4, 2, None),
        (
            MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
                   "OMPI_MCA_orte_hnp_uri": "15.0;tcp://10.0.0.1,10.1.0.1:5311"},
            "10.0.0.1:8476", 2, 4, None, None,
        ),
        (
            MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "77"},
            "n1:77", 2, 4, 2, None,
        ),
        (TPU, "t0:8476", 2, 4, None, None),
        (
            TPU | {"MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2",
                   "MEGASCALE_COORDINATOR_ADDRESS": "head:8080"},
            "head:8476", 10, 12, None, 2,
        ),
    ],
)  # fmt: skip
def test_each_launchers_words_are_understood(
    environment, coordinator, index, count, local, slice_index
):
    found = discover(environment)
    assert found is not None
    assert (found.coordinator, found.index, found.count) == (coordinator, index, count)
    assert (found.local_index, found.slice_index) == (local, slice_index)
    assert f"process {index} of {count}" in str(found)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (without(KMM, "KMM_PROCESS"), "KMM_PROCESS is not set"),
        (KMM | {"KMM_PROCESS": "4"}, "process 4 of 4; processes count from 0 to 3"),
        (KMM | {"KMM_PROCESSES": "four"}, "KMM_PROCESSES is 'four', no number"),
        (KMM | {"KMM_COORDINATOR": "node1"}, "must be HOST:PORT, such as node1:8476"),
        (without(JOBSET, "JOB_COMPLETIONS"), "JOB_COMPLETIONS is not set; the manifest must"),
        (without(JOBSET, "JOBSET_JOB_INDEX"), "JOBSET_JOB_INDEX is not set"),
        (without(JOBSET, "JOBSET_COORDINATOR"), "JOBSET_COORDINATOR is not set"),
        (JOBSET | {"JOB_COMPLETION_INDEX": "4"}, "pod 4 of JOB_COMPLETIONS=4"),
        (without(SLURM, "SLURM_STEP_ID"), "16 tasks, but this process is the batch script"),
        (without(SLURM, "SLURM_STEP_NODELIST"), "SLURM_STEP_NODELIST is not set"),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu[007"}, "cannot be read: 'gpu\\[007'"),
        (without(MPI, "OMPI_COMM_WORLD_RANK"), "OMPI_COMM_WORLD_RANK is not set"),
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "does not say where process 0 is"),
        (without(TPU, "TPU_WORKER_ID"), "TPU_WORKER_ID is not set"),
        (TPU | {"TPU_WORKER_ID": "4"}, "TPU_WORKER_HOSTNAMES names 4"),
        (TPU | {"MEGASCALE_NUM_SLICES": "2"}, "MEGASCALE_SLICE_ID is not set"),
    ],
)
def test_a_partial_or_wrong_environment_is_named(environment, message):
    with pytest.raises(ConfigError, match=message):
        discover(environment)


@pytest.mark.parametrize(
    "environment",
    [
        KMM | {"KMM_PROCESSES": "1", "KMM_PROCESS": "0"},
        without(SLURM, "SLURM_STEP_ID") | {"SLURM_NTASKS": "1"},
        TPU | {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
    ],
)
def test_one_process_alone_needs_no_others(environment):
    assert discover(environment) is None


def test_a_process_takes_the_gpu_of_its_number_unless_it_sees_one_alone():
    found = discover(SLURM)
    assert found is not None
    assert own_device(found, {}) == 1
    assert own_device(found, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}) == 1
    assert own_device(found, {"CUDA_VISIBLE_DEVICES": "3"}) is None
    one_a_host = discover(SLURM | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"})
    assert one_a_host is not None
    assert own_device(one_a_host, {}) is None


def test_flags_win_and_must_be_whole():
    found = discover(SLURM, coordinator="a:1", count=2, index=1)
    assert found == Processes(source="flags", coordinator="a:1", index=1, count=2)
    moved = discover(SLURM, coordinator="a:1")
    assert moved is not None and (moved.coordinator, moved.index) == ("a:1", 9)
    assert discover({}, count=1) is None
    with pytest.raises(ConfigError, match="--processes given without --coordinator, --process"):
        discover({}, count=2)
    with pytest.raises(ConfigError, match="neither --processes"):
        discover({}, coordinator="a:1")


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node001", "node001"),
        ("node001,host2", "node001"),
        ("node[001-015],host2", "node001"),
        ("n[7,9-11]-ib0", "n7-ib0"),
        ("a-b.c[03]", "a-b.c03"),
    ],
)
def test_the_first_of_slurms_hosts(nodes, host):
    assert first_host(nodes) == host
