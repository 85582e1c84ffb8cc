"""Elementwise kernels timed where they run: inside passes of generic transformers that no profile is used for.

Alone, a norm or an activation finds its temporaries in cache; in a pass of a large model the weights have pushed
them out, and the allocator hands out other memory each time. On two CPU cores that is a factor of 2 to 6, which no
sweep over a cache-full of data reproduced. Only on devices that run when called: a GPU's kernels are timed in graphs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import torch

from specsim.profiles.schema import Row, spread_of
from specsim.profiling.device.machine import DTYPES, Machine
from specsim.profiling.device.timer import displacements
from specsim.reference.network import layers, transformer
from specsim.reference.network.transformer import TokenGroup, Transformer
from specsim.specs.model import ModelSpec

HEAD_DIM = 64
WEIGHTS_IN_CACHES = 3.0  # weights of a pass, in last-level caches
VISITS, WARM_UP_PASSES, PASSES = 4, 1, 2  # visits to each token count, passes in each
FUNCTIONS = {  # operation of the profile -> the engine's function, and its calls for one unit of the operation
    "embedding": ("embed", 1),
    "norm": ("rms_norm", 1),
    "rotary": ("rotary", 1),
    "kv_write": ("write_cache", 2),
    "activation": ("gated_activation", 1),
    "add": ("add", 1),
}

KERNELS = FUNCTIONS | {"gemm": ("linear", 1), "attention": ("attend", 1)}
BETWEEN_HIDDEN, BETWEEN_PASSES, HOOK_CALLS = 256, 12, 1000


def widths(hidden: int) -> dict[str, int]:
    """Width of each operation in the generic transformer of this hidden size."""
    spec = _spec(hidden, 1)
    return {
        "embedding": hidden,
        "norm": hidden,
        "add": hidden,
        "activation": spec.intermediate_size,
        "rotary": (spec.num_heads + spec.num_kv_heads) * HEAD_DIM,
        "kv_write": spec.kv_values_per_token(),
    }


def pass_flops(machine: Machine, hidden: int, tokens: int) -> float:
    """FLOPs of the matrix products of one pass of the generic transformer."""
    return 2.0 * tokens * _sized(machine, hidden).parameter_count()


def times(machine: Machine, dtype: str, hidden: int, token_counts: Sequence[int]) -> Iterator[Row]:
    """Rows of all operations for each token count, from passes of the generic transformer."""
    model = _generic(machine, dtype, hidden, max(token_counts))
    calls: dict[int, dict[str, list[float]]] = {tokens: {name: [] for name in FUNCTIONS} for tokens in token_counts}
    for tokens in VISITS * list(
        token_counts
    ):  # again and again, so that no moment of the machine is a count's only one
        _timed_passes(model, tokens, calls[tokens])
    for tokens, operation in product(token_counts, FUNCTIONS):
        count = FUNCTIONS[operation][1]
        seconds = calls[tokens][operation]
        median, p10, p90 = (count * each for each in spread_of(seconds))
        yield Row(
            shape=(float(tokens), float(widths(hidden)[operation])),
            operation=operation,
            dtype=dtype,
            kernel="in a pass",
            cache="cold",
            mode="eager",
            median_s=median,
            p10_s=p10,
            p90_s=p90,
            samples=len(seconds),
        )


def between_kernels_s(machine: Machine, dtype: str) -> list[float]:
    """Seconds a layer that lie between the kernels of a pass: the interpreter's own, one value a pass.

    A pass of one token, less its kernels, less what timing these adds.
    """
    model = _generic(machine, dtype, BETWEEN_HIDDEN, 1)
    found = []
    for _ in range(BETWEEN_PASSES):
        calls: dict[str, list[float]] = {name: [] for name in KERNELS}
        seconds = _timed_passes(model, 1, calls)
        kernels_s, count = sum(map(sum, calls.values())), sum(map(len, calls.values()))
        found.append(max(0.0, seconds - kernels_s - count * _hook_s()) / (PASSES * model.spec.num_layers))
    return found


def _hook_s() -> float:
    """What a timed call takes beside what it notes down."""
    noted: list[float] = []
    call = _timed(lambda: None, noted, [])
    start_s = time.perf_counter()
    for _ in range(HOOK_CALLS):
        call()
    return (time.perf_counter() - start_s - sum(noted)) / HOOK_CALLS


def _generic(machine: Machine, dtype: str, hidden: int, longest: int) -> Transformer:
    """A transformer of that hidden size."""
    spec = _sized(machine, hidden)
    return Transformer(spec, device=machine.device, dtype=DTYPES[dtype], max_sequences=1, max_length=longest, seed=0)


def _sized(machine: Machine, hidden: int) -> ModelSpec:
    """Of that hidden size, with weights enough to leave none in the caches."""
    wanted = WEIGHTS_IN_CACHES * machine.last_level_cache_bytes
    return _spec(hidden, max(2, math.ceil(wanted / _spec(hidden, 1).weight_bytes())))


def _spec(hidden: int, layers: int) -> ModelSpec:
    heads = max(1, hidden // HEAD_DIM)
    return ModelSpec(
        name="generic",
        source="profiling only",
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=max(1, heads // 4),
        head_dim=HEAD_DIM,
        intermediate_size=4 * hidden,
        vocab_size=512,
    )


def _timed_passes(model: Transformer, tokens: int, calls: dict[str, list[float]]) -> float:
    """Add the seconds of every call of every operation that no other process interrupted.

    Seconds of all PASSES, less the calls that were interrupted.
    """
    text = torch.arange(tokens).remainder(model.spec.vocab_size)[None, :]
    start = np.zeros(1, dtype=np.int64)
    plan = model.plan([TokenGroup(start, text, start, 1)])
    for _ in range(WARM_UP_PASSES):
        model.run(plan)
    with _recorded(calls) as interrupted_s:
        start_s = time.perf_counter()
        for _ in range(PASSES):
            model.run(plan)
        return time.perf_counter() - start_s - sum(interrupted_s)


@contextmanager
def _recorded(calls: dict[str, list[float]]) -> Iterator[list[float]]:
    """Replace the engine's functions by timed ones while the context lasts; yields seconds of interrupted calls."""
    interrupted_s: list[float] = []
    calling = [
        (module, name, operation)
        for operation, (name, _) in KERNELS.items()
        for module in (layers, transformer)
        if operation in calls and hasattr(module, name)
    ]
    originals = [getattr(module, name) for module, name, _ in calling]
    try:
        for (module, name, operation), original in zip(calling, originals, strict=True):
            setattr(module, name, _timed(original, calls[operation], interrupted_s))
        yield interrupted_s
    finally:
        for (module, name, _), original in zip(calling, originals, strict=True):
            setattr(module, name, original)


def _timed(function: Callable[..., Any], seconds: list[float], interrupted_s: list[float]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        displaced = displacements()
        start_s = time.perf_counter()
        result = function(*arguments)
        elapsed_s = time.perf_counter() - start_s
        counts = displacements() == displaced or not seconds
        (seconds if counts else interrupted_s).append(elapsed_s)
        return result

    return call
