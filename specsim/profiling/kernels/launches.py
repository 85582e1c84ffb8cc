"""Each profiled shape as something to launch: the reference engine's own kernels on buffers of random data.

Cold launches walk through a pool larger than the last-level cache, so that every weight and every KV cache comes from
memory. Warm launches walk through a quarter of the cache, as the layers of a small draft model do when its passes
follow one another.

On a CPU a large model's weights also push masks and temporaries out of the cache between two layers. Cold attention
launches therefore each follow a sweep over a cache-full of other data, with only their queries touched again;
elementwise kernels are timed inside passes, see ``in_pass``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specsim.profiling.device.machine import DTYPES, Machine
from specsim.profiling.device.timer import Capture, Clock, KernelLaunch
from specsim.profiling.kernels.attention import CPU_KERNEL, fastest_on_gpu, mask_of, reference_launch
from specsim.profiling.kernels.experts import ExpertWeights, visits
from specsim.profiling.kernels.formats import (
    Weight,
    activation_dtype,
    convert,
    kernel_name,
    multiply,
    rows_multiplied,
    weight_bytes,
)
from specsim.profiling.kernels.sampling import reject, sample, softmax
from specsim.profiling.sweep.plan import Shape
from specsim.reference.network.kernels import (
    add,
    embed,
    gated_activation,
    greedy_tokens,
    rms_norm,
    rotary,
    write_cache,
)

COLD_POOL, WARM_POOL = 8.0, 0.25  # pool sizes in last-level caches; AMD keeps part of a pool only 3 times its size
MOST_BUFFERS = 512
NORM_EPSILON = 1e-5
TEMPERATURE = 0.8


@dataclass(frozen=True, slots=True)
class Prepared:
    """A kernel ready to time."""

    launch: KernelLaunch
    buffers: int
    kernel: str  # what runs, for the profile's table
    before: Callable[[], object] | None = None  # runs ahead of each launch, untimed


class Kernels:
    """Prepares launches on one device and dtype; weights are kept between shapes that differ only in their rows."""

    def __init__(self, machine: Machine, dtype: str, clock: Clock, capture: Capture) -> None:
        self._device, self._dtype, self._dtype_name = machine.device, DTYPES[dtype], dtype
        self._cache_bytes = machine.last_level_cache_bytes
        self._clock, self._capture = clock, capture
        self._weights: tuple[object, list[Weight]] = (None, [])
        self._experts: tuple[object, list[ExpertWeights]] = (None, [])
        self._pool = torch.empty(0, device=self._device, dtype=self._dtype)
        self._other = torch.empty(0)

    @torch.inference_mode()
    def prepare(self, shape: Shape) -> Prepared:
        """Allocate a shape's buffers and return its launch.

        Raises RuntimeError (or NotImplementedError) where this device or torch has no such kernel or no room for it.
        """
        build: dict[str, Callable[[Shape], Prepared]] = {
            "gemm": self._gemm,
            "attention": self._attention,
            "elementwise": self._elementwise,
            "sampling": self._sampling,
            "moe": self._moe,
        }
        prepared = build[shape.kind](shape)

        def launch(turn: int) -> object:
            with torch.inference_mode():
                return prepared.launch(turn)

        return Prepared(launch, prepared.buffers, prepared.kernel, prepared.before)

    def release(self) -> None:
        """Forget all buffers, as after running out of memory."""
        self._weights, self._experts = (None, []), (None, [])
        self._pool = self._pool[:0].clone()
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _evict(self, cache: str, queries: Tensor) -> Callable[[], object] | None:
        """Fill the caches with other data, then bring the queries back, as the kernel before would have."""
        if cache == "warm" or self._device != "cpu":
            return None
        if self._other.numel() == 0:
            self._other = torch.zeros(self._cache_bytes, dtype=torch.uint8, device=self._device)

        def evict() -> None:
            with torch.inference_mode():
                self._other.add_(1)
                queries.mul_(1)

        return evict

    def _random(self, *size: int) -> Tensor:
        return torch.randn(*size, device=self._device, dtype=self._dtype)

    def _count(self, one_bytes: float, cache: str) -> int:
        pool = self._cache_bytes * (COLD_POOL if cache == "cold" else WARM_POOL)
        return max(2 if cache == "cold" else 1, min(MOST_BUFFERS, round(pool / one_bytes)))

    def _views(self, count: int, *size: int) -> list[Tensor]:
        """``count`` tensors side by side in one pool of random numbers, made once and grown when needed."""
        one = math.prod(size)
        if self._pool.numel() < count * one:
            self._pool = self._pool[:0].clone()  # free the old one first
            self._pool = self._random(count * one)
        return [self._pool[i * one : (i + 1) * one].view(size) for i in range(count)]

    def _gemm(self, shape: Shape) -> Prepared:
        m, n, k = (int(v) for v in shape.shape)
        key = (n, k, shape.cache, shape.dtype)
        if self._weights[0] != key:
            self._weights = (None, [])  # free the old ones first
            count = self._count(weight_bytes(n, k, shape.dtype), shape.cache)
            weight = convert(self._random(n, k), shape.dtype, self._dtype_name)
            self._weights = (key, [weight, *(weight.clone() for _ in range(count - 1))])
        weights = self._weights[1]
        x = self._random(rows_multiplied(m, shape.dtype, self._device), k).to(
            activation_dtype(shape.dtype, self._dtype_name)
        )
        return Prepared(lambda turn: multiply(x, weights[turn]), len(weights), kernel_name(weights[0]))

    def _attention(self, shape: Shape) -> Prepared:
        sequences, width, keys, heads, kv_heads, head_dim = (int(v) for v in shape.shape)
        one = 2 * sequences * kv_heads * keys * head_dim * self._dtype.itemsize
        caches = self._views(self._count(one, shape.cache), 2, sequences, kv_heads, keys, head_dim)
        queries = self._random(sequences, width, heads, head_dim)
        if self._device == "cuda":
            launch, kernel = fastest_on_gpu(shape.operation, queries, caches, self._clock, self._capture)
            return Prepared(launch, len(caches), kernel)
        mask = mask_of(shape.operation, sequences, width, keys, heads // kv_heads, queries)
        launch = reference_launch(queries, caches, mask)
        return Prepared(launch, len(caches), CPU_KERNEL, self._evict(shape.cache, queries))

    def _elementwise(self, shape: Shape) -> Prepared:
        tokens, width = (int(v) for v in shape.shape)
        x = self._random(tokens, 2 * width if shape.operation == "activation" else width)
        launch = self._elementwise_launch(shape.operation, x, width)
        return Prepared(launch, 1, shape.operation)

    def _elementwise_launch(self, operation: str, x: Tensor, width: int) -> KernelLaunch:
        tokens = x.shape[0]
        if operation == "norm":
            weight = self._random(width)
            return lambda _: rms_norm(x, weight, NORM_EPSILON)
        if operation == "add":
            y = torch.zeros_like(x)  # adding to it for ever must not overflow
            return lambda _: add(y, x)
        if operation == "activation":  # width is the output's: gate and up are two of it
            return lambda _: gated_activation(x)
        if operation == "embedding":
            table = self._random(8192, width)
            ids = torch.randint(0, 8192, (tokens,), device=self._device)
            return lambda _: embed(ids, table)
        head_dim = 64
        heads = width // head_dim
        if operation == "rotary":
            cos, sin = (self._random(tokens, 1, head_dim) for _ in range(2))
            stacked = x.view(tokens, heads, head_dim)
            return lambda _: rotary(stacked, cos, sin)
        return self._kv_write_launch(x.view(tokens, 2, heads // 2, head_dim)[:, 0].contiguous())

    def _kv_write_launch(self, values: Tensor) -> KernelLaunch:
        """Keys and values [tokens, kv_heads, head_dim], two writes: width is 2·kv_heads·head_dim."""
        tokens, kv_heads, head_dim = values.shape
        cache = self._random(tokens, kv_heads, 64, head_dim)
        slots = torch.arange(tokens * kv_heads, device=self._device).view(tokens, kv_heads)
        rows = slots * 64 + torch.randint(0, 64, (tokens, 1), device=self._device)

        def launch(_: int) -> None:
            write_cache(cache, rows, values)
            write_cache(cache, rows, values)

        return launch

    def _sampling(self, shape: Shape) -> Prepared:
        rows, vocabulary = (int(v) for v in shape.shape)
        logits = self._random(rows, vocabulary)
        if shape.operation == "greedy":
            return Prepared(lambda _: greedy_tokens(logits), 1, "argmax")
        if shape.operation == "softmax":
            return Prepared(lambda _: softmax(logits), 1, "softmax to float32")
        if shape.operation == "sample":
            temperature = torch.full((rows, 1), TEMPERATURE, device=self._device)
            return Prepared(lambda _: sample(logits, temperature), 1, "softmax, exponential race")
        target, draft = softmax(logits), softmax(self._random(rows, vocabulary))
        drafted = torch.randint(0, vocabulary, (rows,), device=self._device)
        return Prepared(lambda _: reject(target, draft, drafted), 1, "ratio test, residual by exponential race")

    def _moe(self, shape: Shape) -> Prepared:
        tokens, hidden, intermediate, num_experts, chosen = (int(v) for v in shape.shape)
        if self._experts[0] != shape.shape[1:]:
            self._weights, self._experts = (None, []), (None, [])
            count = self._count(3 * num_experts * hidden * intermediate * self._dtype.itemsize, shape.cache)
            gate_up = self._random(num_experts, 2 * intermediate, hidden).mul_(hidden**-0.5)
            down = self._random(num_experts, hidden, intermediate).mul_(intermediate**-0.5)
            layers = [ExpertWeights(gate_up.clone(), down.clone()) for _ in range(count)]
            self._experts = (shape.shape[1:], layers)
        layers = self._experts[1]
        counts = visits(tokens, num_experts, chosen, seed=0)
        ends = torch.from_numpy(np.cumsum(counts)).to(self._device, torch.int32)
        x = self._random(tokens * chosen, hidden)
        return Prepared(lambda turn: layers[turn].run(x, counts, ends), len(layers), layers[0].kernel)
