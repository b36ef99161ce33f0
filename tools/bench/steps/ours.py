"""Our training step as the loop runs it: donated state, a batch from the host each time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models import attention
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.planning.memory import memory
from kmm_jax.planning.roofline import step_time
from kmm_jax.planning.step import trace_step
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training import hardware
from kmm_jax.training import setup as setups
from kmm_jax.training.chips import chip_of
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.setup import Setup
from kmm_jax.training.sharding import MeshConfig
from kmm_jax.training.update import make_update, place
from tools.bench.steps import cases
from tools.bench.steps.cases import Case


def experiment_of(case: Case) -> Experiment:
    config = case.config
    task = CoCaTask(model=config) if isinstance(config, CoCaConfig) else CLIPTask(model=config)
    return Experiment(
        name=case.name,
        task=task,
        data=DataConfig(
            sources=(SourceConfig(url="none"),),
            image_size=config.vision.image_size,
            text_length=config.text.length,
        ),
        global_batch_size=case.batch,
        duration="10_000 steps",
        mesh=MeshConfig(data=1),
    )


def _one_product_each(x_BTC: jax.Array, projections: Sequence[nnx.Linear]) -> list[jax.Array]:
    return [projection(x_BTC) for projection in projections]


def planned(experiment: Experiment, setup: Setup, device: jax.Device) -> dict[str, float]:
    """What `kmm plan` says of a step on this device alone; nothing where there are no figures."""
    chip = chip_of(device)
    if chip is None:
        return {}
    traced = trace_step(experiment, setup, flash_attention=chip.flash_attention)
    needed = memory(experiment, setup, per_example=traced.per_example, over_batch=traced.over_batch)
    time = step_time(traced.computation, needed, (), dict(setup.mesh.shape), chip)
    return {"planned_bytes": needed.total, "planned_seconds": time.device}


class Ours:
    """One model on one device, compiled."""

    def __init__(self, case: Case) -> None:
        if case.apart:
            attention.project = _one_product_each
        experiment = experiment_of(case)
        self._mesh = setups.prepare_mesh(experiment)
        setup = setups.prepare(
            experiment, self._mesh, examples_per_epoch=case.batch, vocabulary=None
        )
        self._rows = cases.rows(case)
        self._state = setups.fresh_state(experiment, setup)
        update = make_update(
            experiment.task,
            setup.graphdef,
            setup.optimizer,
            setup.learning_rate,
            self._mesh,
            setup.shardings,
            trained=setup.trained,
        )
        start = time.perf_counter()
        self._update = update.lower(self._state, place(self._rows, self._mesh)).compile()
        self._compile_seconds = time.perf_counter() - start
        self._experiment, self._setup = experiment, setup
        self._flops = experiment.task.flops_per_example()
        self._case = case

    def steps(self, count: int) -> float:
        """So many steps; the last one's loss. Each is dispatched before the one before is read."""
        before: Any = None
        for _ in range(count):
            batch = place(self._rows, self._mesh)
            self._state, metrics = self._update(self._state, batch)
            if before is not None:
                before.fetch()
            before = metrics
        return before.fetch()["loss"]

    def facts(self, seconds: float) -> dict[str, Any]:
        """What is known once a step is found to take ``seconds``."""
        device = self._mesh.devices.flat[0]
        peak, rate = hardware.peak_flops(device), self._case.batch / seconds
        analysis = self._update.memory_analysis()
        seen = (device.memory_stats() or {}).get("peak_bytes_in_use")
        analysed = (
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            + analysis.temp_size_in_bytes
            - analysis.alias_size_in_bytes
        )
        state = sum(leaf.nbytes for leaf in jax.tree.leaves(self._state))
        return {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._state.params)),
            "flops_per_example": self._flops,
            "mfu": None if peak is None else hardware.mfu(rate, self._flops, 1, peak),
            "peak_bytes": seen or analysed,
            "peak_bytes_by": "the device" if seen else "XLA's analysis",
            **planned(self._experiment, self._setup, device),
            "state_donated": analysis.alias_size_in_bytes >= state,
            "compile_seconds": self._compile_seconds,
            "dtype": self._case.config.dtype,
            "how": "",
        }
