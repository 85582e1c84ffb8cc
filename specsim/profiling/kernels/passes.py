"""Whole passes of generic Llama-like models: the check that kernels add up. They never price anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch

from specsim.profiles.schema import Row
from specsim.profiling.device.machine import DTYPES
from specsim.profiling.device.probe import MachineProbe
from specsim.profiling.device.timer import CallCapture, Capture, Clock, Timing, clock_of_mode, measure
from specsim.reference.network.transformer import PassPlan, TokenGroup, Transformer
from specsim.specs.model import ModelSpec

PassShape = tuple[int, int, int]  # sequences, query tokens, KV tokens with the new ones
SPARE_POSITIONS = 8  # of each cache slot
RAGGED = 4  # sequences end at this many different lengths, as they do while serving


def generic_model(hidden: int, layers: int, heads: tuple[int, int, int], *, vocab_size: int) -> ModelSpec:
    """A Llama-like model; ``heads``: query heads, KV heads, head size."""
    return ModelSpec(
        name=f"generic-{hidden}x{layers}",
        source="profiling only",
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=heads[2],
        intermediate_size=hidden * 11 // 4 // 64 * 64,
        vocab_size=vocab_size,
    )


CHECKED = {
    "cpu": (
        generic_model(640, 12, (10, 2, 64), vocab_size=20000),
        generic_model(1280, 6, (20, 4, 64), vocab_size=24000),
    ),
    "cuda": (
        generic_model(2048, 16, (32, 8, 64), vocab_size=32000),
        generic_model(4096, 16, (32, 8, 128), vocab_size=64000),
    ),
}


class PassTimer:
    """Times passes of one model whose caches hold random keys and values."""

    def __init__(self, spec: ModelSpec, cells: Sequence[PassShape], device: str, dtype: str, clock: Clock) -> None:
        self._clock = clock
        self._model = Transformer(
            spec,
            device=device,
            dtype=DTYPES[dtype],
            max_sequences=max(cell[0] for cell in cells),
            max_length=max(cell[2] for cell in cells) + SPARE_POSITIONS,
            seed=0,
        )
        with torch.inference_mode():
            self._model.cache.normal_()

    def time(self, cell: PassShape, capture: Capture, probe: MachineProbe) -> Timing:
        """Seconds of one pass, logits of every new token included, in a steady moment of the machine."""
        plan = self._plan(cell)

        def timed() -> Timing:
            clock = clock_of_mode(self._clock, capture.mode)
            return measure(lambda _: self._model.run(plan), buffers=1, clock=clock, capture=capture)

        return probe.steadily(timed)

    def _plan(self, cell: PassShape) -> PassPlan:
        sequences, width, keys = cell
        model = self._model
        generator = np.random.default_rng(0)
        tokens = torch.from_numpy(generator.integers(0, model.spec.vocab_size, (sequences, width))).to(model.device)
        slots = np.arange(sequences, dtype=np.int64)
        shorter = slots % max(1, min(RAGGED, keys - width))
        return model.plan([TokenGroup(slots, tokens, keys - width - shorter, width)])


def pass_rows(
    spec: ModelSpec,
    cells: Sequence[PassShape],
    device: str,
    dtype: str,
    clock: Clock,
    captures: Sequence[Capture],
    probe: MachineProbe,
) -> Iterator[Row]:
    """Time each cell's pass in each mode of ``captures``."""
    timer = PassTimer(spec, cells, device, dtype, clock)
    for cell, capture in product(cells, captures):
        timing = timer.time(cell, capture, probe)
        yield Row(
            shape=tuple(float(v) for v in cell),
            operation=spec.name,
            dtype=dtype,
            kernel="reference engine",
            cache="cold",
            mode=capture.mode,
            median_s=timing.median_s,
            p10_s=timing.p10_s,
            p90_s=timing.p90_s,
            samples=timing.samples,
        )


def captures_of(capture: Capture) -> list[Capture]:
    """The modes a device runs passes in: a GPU eagerly and from a graph."""
    return [capture] if capture.mode == "eager" else [CallCapture(), capture]
