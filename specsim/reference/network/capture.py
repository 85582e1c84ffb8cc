"""Captures: a computation over fixed buffers, launched once and replayed, as a CUDA graph or as calls on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

WARM_UPS = 2

Outputs = tuple[Tensor, ...]
Returned = TypeVar("Returned")


class PassCapture(Protocol):
    """Turns a computation over fixed buffers into something to replay."""

    captured: int  # how many were

    def capture(self, body: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        """What the computation returns, and a replay that writes it anew; ``body`` runs a few times at once."""
        ...


class CudaPassCapture:
    """CUDA graphs that share one memory pool: only the outputs that a body copies elsewhere outlive a replay."""

    def __init__(self) -> None:
        self.captured = 0
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def capture(self, body: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        graph, outputs = cuda_graph(body, body, self._stream, self._pool)
        self.captured += 1
        return outputs, graph.replay


def cuda_graph(
    warm_up: Callable[[], object], body: Callable[[], Returned], stream: torch.cuda.Stream, pool: Any = None
) -> tuple[torch.cuda.CUDAGraph, Returned]:
    """A CUDA graph of what ``body`` launches, and what it returned; ``pool``: the memory to share, else its own.

    ``warm_up`` runs first, on the stream that is then captured, so that libraries set up their workspaces outside the
    capture. What cannot be captured raises RuntimeError there, also for waiting for the device: a capture that fails
    leaves torch's allocator, before 2.13, unfit for another.
    """
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS - 1):
            warm_up()
        with _no_waiting():
            warm_up()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        returned = body()
    return graph, returned


@contextmanager
def _no_waiting() -> Iterator[None]:
    """What makes the host wait for the device raises RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class CpuPassCapture:
    """On a CPU: the same operators, called again on the same buffers.

    Like a graph it knows nothing of Python: whatever is not an operator's tensor argument stays as it was.
    """

    def __init__(self) -> None:
        self.captured = 0

    def capture(self, body: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        body()
        with _Tape() as tape:
            outputs = body()
        self.captured += 1
        return outputs, tape.replay


class _Tape(TorchDispatchMode):
    """Operators in the order of their calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in ("aten::item", "aten::_local_scalar_dense", "aten::nonzero"):
            raise RuntimeError(f"{func} waits for a value of a buffer, which no graph can")
        result = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        renewed: dict[int, Tensor] = {}

        def current(value: Any) -> Any:
            return renewed.get(id(value), value) if isinstance(value, Tensor) else value

        for func, args, kwargs, result in self._calls:
            again = func(*tree_map(current, args), **tree_map(current, kwargs))
            for old, new in zip(tree_flatten(result)[0], tree_flatten(again)[0], strict=True):
                renewed[id(old)] = new
