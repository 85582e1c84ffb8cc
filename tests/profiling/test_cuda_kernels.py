"""The CUDA half of the profiler without a GPU: tensors without values, clocks and graphs on a stand-in driver.

Tensors without values run every operator's own checks of shapes and dtypes, and nothing else. What torch checks only
in its CUDA kernels is checked here by ``OnDevice``, after aten/src/ATen/native/cuda of torch 2.9 to 2.13.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map  # noqa: E402

from specsim.profiles.store import load_profile  # noqa: E402
from specsim.profiling.device import (  # noqa: E402
    machine,
    timer,
)
from specsim.profiling.kernels import attention, collectives  # noqa: E402
from specsim.profiling.kernels.launches import Kernels  # noqa: E402
from specsim.profiling.kernels.passes import CHECKED, PassTimer, captures_of  # noqa: E402
from specsim.profiling.sweep.plan import CUDA, ELEMENTWISE, NARROW, SAMPLING, Block, Grid, Shape, shapes  # noqa: E402
from specsim.profiling.sweep.run import run_sweep  # noqa: E402
from specsim.reference.decoding.generate import Engine  # noqa: E402
from specsim.reference.decoding.sampling import Sampler  # noqa: E402
from specsim.reference.drafters import (  # noqa: E402
    Drafter,
    DraftModel,
    DynamicExit,
    Eagle,
    EarlyExit,
    Grown,
    Lookahead,
    Medusa,
    Merged,
    NGram,
    SkippedLayers,
)
from specsim.reference.drafters.drafter_weights import random_adapter, random_feature_head, random_heads  # noqa: E402
from specsim.reference.network import graphs  # noqa: E402
from specsim.reference.network.capture import WARM_UPS  # noqa: E402
from specsim.reference.network.layers import Sublayers  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.reference.timing import grid  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.acceptance import AcceptanceDraws, ConstantAcceptance  # noqa: E402
from specsim.speculation.tree import chain  # noqa: E402

H200 = machine.Machine("cuda", "NVIDIA H200", 1, "", "", {}, 60 * 2**20, 141 * 10**9)
GIB = 2**30


class OnDevice(TorchDispatchMode):
    """Operators' arguments are on one device, while ``launching`` the GPU, and what CUDA kernels take; bytes count."""

    def __init__(self, launching: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launching = launching
        self.bytes, self.most_bytes = 0, 0
        self._views: dict[int, int] = {}
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        self.called.add(name)
        if name in ("aten::nonzero", "aten::item", "aten::_local_scalar_dense") and args[0].is_meta:
            assert not self.launching, f"{name} waits for the device"
            result = args[0].new_empty(len(args[0]), args[0].dim(), dtype=torch.int64)
        else:
            result = func(*args, **(kwargs or {}))
        self._require_one_device(name, tree_leaves((args, kwargs, result)))
        rule = RULES.get(name)
        if rule is not None:
            rule(*args)
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.is_meta:
                self._count(value)
        return result

    def _require_one_device(self, name: str, values: list[Any]) -> None:
        tensors = [value for value in values if isinstance(value, torch.Tensor) and value.dim()]
        on_gpu = [tensor.is_meta for tensor in tensors]
        if self.launching or name not in COPIES:
            assert all(on_gpu) or not (any(on_gpu) or self.launching), (
                f"{name} on the CPU, {[t.shape for t in tensors]}"
            )

    def _count(self, value: Any) -> None:
        storage = value.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._views:
            self._views[key] = 0
            self.bytes += size
            self.most_bytes = max(self.most_bytes, self.bytes)
        self._views[key] += 1
        weakref.finalize(value, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._views[key] -= 1
        if not self._views[key]:
            del self._views[key]
            self.bytes -= size


class Gpu(TorchFunctionMode):
    """A device ``cuda`` whose tensors hold nothing: torch's meta device under that name."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__ and args[0].is_meta:
            return torch.device("cuda")
        if func == torch.Tensor.is_cuda.__get__:
            return args[0].is_meta
        if func is torch.Tensor.cpu:
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        if func is torch.ops.aten._weight_int4pack_mm:  # its meta kernel asks which device it stands for
            _int4pack_mm(*args)
            return args[0].new_empty(args[0].shape[0], 8 * args[1].shape[0])
        for option in ("generator", "non_blocking", "pin_memory"):
            kwargs.pop(option, None)
        args, kwargs = tree_map(self._meta, (args, kwargs)) if func is not torch.device else (args, kwargs)
        return func(*args, **kwargs)

    def _meta(self, value: Any) -> Any:
        named = isinstance(value, str) and value.startswith("cuda")
        return torch.device("meta") if named or (isinstance(value, torch.device) and value.type == "cuda") else value


def _int_mm(a: Any, b: Any, *_: Any) -> None:
    assert a.shape[0] > 16
    assert a.shape[1] % 8 == b.shape[1] % 8 == 0
    assert b.stride(0) == 1  # column-major: cuBLAS has no other int8 kernel on tensor cores


def _int4pack(codes: Any, inner_k_tiles: int) -> None:
    assert codes.is_contiguous()
    assert codes.shape[1] * 2 % (inner_k_tiles * 16) == codes.shape[0] % 8 == 0


def _int4pack_mm(x: Any, packed: Any, group: int, affine: Any) -> None:
    assert x.dtype == affine.dtype == torch.bfloat16
    assert all(tensor.is_contiguous() for tensor in (x, packed, affine))
    assert group in (32, 64, 128, 256)
    assert affine.shape == (x.shape[1] // group, packed.shape[0] * 8, 2)
    assert packed.shape[1] == x.shape[1] // (packed.shape[3] * 2 * 16)


COPIES = ("aten::_to_copy", "aten::copy_", "aten::to")
RULES: dict[str, Callable[..., None]] = {
    "aten::_int_mm": _int_mm,
    "aten::_convert_weight_to_int4pack": _int4pack,
}


class Driver:
    """Stands in for streams, events and graphs and notes what is asked of them; captures launch on the GPU only."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.current = Stream(self, 0)
        self.streams = 1
        self.waiting_is_an_error = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        standing_in = {
            "Stream": self.new_stream,
            "Event": lambda **_: Event(self),
            "CUDAGraph": lambda: Graph(self),
            "stream": self.on,
            "graph": self.capturing,
            "current_stream": lambda: self.current,
            "synchronize": lambda *_: self.log.append("synchronize"),
            "_sleep": lambda cycles: self.log.append(f"sleep {cycles}"),
            "set_sync_debug_mode": self.forbid_waiting,
            "get_sync_debug_mode": lambda: self.waiting_is_an_error,
            "graph_pool_handle": lambda: (0, 1),
            "empty_cache": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "get_device_capability": lambda *_: (9, 0),
            "get_device_properties": lambda _: SimpleNamespace(
                name="NVIDIA H200",
                L2_cache_size=H200.last_level_cache_bytes,
                total_memory=H200.memory_bytes,
                multi_processor_count=132,
            ),
        }
        for name, replacement in standing_in.items():
            monkeypatch.setattr(torch.cuda, name, replacement)
        monkeypatch.setattr(torch, "Generator", lambda _: SimpleNamespace(manual_seed=lambda _: None))

    def new_stream(self) -> Stream:
        self.streams += 1
        return Stream(self, self.streams - 1)

    def forbid_waiting(self, mode: str | int) -> None:
        self.waiting_is_an_error = 2 if mode in (2, "error") else 0

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def capturing(self, graph: object, pool: object = None, stream: Stream | None = None) -> Iterator[None]:
        stream = stream or self.new_stream()
        self.log.append(f"capture on {stream.number}")
        with self.on(stream), OnDevice(launching=True):
            yield
        self.log.append("captured")

    def launched(self, _: int = 0) -> None:
        """A launch that notes where it ran, and whether it could have waited for the device."""
        self.log.append(f"launch on {self.current.number}{' unable to wait' if self.waiting_is_an_error else ''}")


@dataclass
class Stream:
    driver: Driver = field(repr=False)
    number: int

    def wait_stream(self, other: Stream) -> None:
        self.driver.log.append(f"{self.number} waits for {other.number}")


@dataclass
class Event:
    driver: Driver

    def record(self) -> None:
        self.driver.log.append("event")

    def synchronize(self) -> None:
        self.driver.log.append("synchronize")

    def elapsed_time(self, _: Event) -> float:
        return 30.0


@dataclass
class Graph:
    driver: Driver

    def replay(self) -> None:
        self.driver.log.append("replay")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """An H200 whose tensors hold nothing."""
    attention.lower_right_bias(2, 4)  # what it imports is imported before the driver is another
    driver = Driver()
    driver.install(monkeypatch)
    monkeypatch.setattr(timer, "LONGEST_S", 60.0)  # of the host's time, which launches without a GPU take

    lower_right_bias = attention.lower_right_bias

    def without_modes(width: int, keys: int) -> Any:
        with _disable_current_modes():  # a subclass of its own, which is made from no operator
            return lower_right_bias(width, keys)

    monkeypatch.setattr(attention, "lower_right_bias", without_modes)
    monkeypatch.setattr(attention, "sdpa_kernel", lambda _: nullcontext())
    with Gpu():
        yield driver


def kernels(dtype: str = "bfloat16") -> Kernels:
    return Kernels(H200, dtype, *timer.clock_and_capture("cuda"))


def corners() -> list[Shape]:
    """Of every kind, operation, dtype, cache and fixed size: the shapes with the least and most in each column."""

    def family(shape: Shape) -> tuple[Any, ...]:
        layout = shape.shape[3:] if shape.kind == "attention" else shape.shape[1:] if shape.kind == "moe" else ()
        prompt = shape.kind == "attention" and shape.shape[1] >= attention.PROMPT
        return shape.kind, shape.operation, shape.dtype, shape.cache, layout, prompt

    chosen: dict[Shape, None] = {}
    every = sorted(shapes(CUDA, "bfloat16", H200.last_level_cache_bytes), key=family)
    for _, members in groupby(every, key=family):
        group = list(members)
        for column in range(len(group[0].shape)):
            ordered = sorted(group, key=lambda shape: (shape.shape[column], np.prod(shape.shape)))
            chosen |= dict.fromkeys((ordered[0], ordered[-1]))
        chosen[max(group, key=lambda shape: np.prod(shape.shape[:3]))] = None
    return list(chosen)


# -- launches ---------------------------------------------------------------------------------------------------------


def test_launches_of_every_kind_run_on_the_gpu_alone(gpu: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """All operators take their arguments, in capture too, where nothing of the CPU's may be; with room to spare."""
    monkeypatch.setattr("specsim.profiling.kernels.launches.MOST_BUFFERS", 3)
    chosen = corners()
    assert {(shape.kind, shape.operation, shape.dtype) for shape in chosen} == {
        (shape.kind, shape.operation, shape.dtype) for shape in shapes(CUDA, "bfloat16", H200.last_level_cache_bytes)
    }
    failed = {}
    for shape in chosen:
        with OnDevice() as counted:
            try:
                prepared = kernels().prepare(shape)
                timer.GraphCapture().capture(prepared.launch, launches=1, buffers=prepared.buffers)
            except (RuntimeError, NotImplementedError) as error:
                failed[shape] = str(error)
        assert counted.most_bytes < H200.memory_bytes / 4, shape
    assert all("scores of latent attention" in reason for reason in failed.values()), failed
    assert len(failed) < 3


@pytest.mark.parametrize(("rows", "multiplied"), [(1, 32), (16, 32), (17, 32), (64, 64)])
def test_int8_products_of_few_rows_are_padded(gpu: Driver, rows: int, multiplied: int) -> None:
    """Two thirds of verification's token counts would else have no int8 time: torch refuses 16 rows and fewer."""
    with OnDevice():
        prepared = kernels().prepare(Shape("gemm", "", (rows, 1024, 512), "warm", "int8"))
        product = prepared.launch(0)
    assert isinstance(product, torch.Tensor)
    assert product.shape == (multiplied, 1024)
    assert "32 rows at least" in prepared.kernel


@pytest.mark.parametrize(
    ("capability", "dtype", "grouped"),
    [
        ((9, 0), "bfloat16", True),
        ((10, 0), "bfloat16", True),
        ((9, 0), "float16", False),
        ((8, 9), "bfloat16", False),
        ((12, 0), "bfloat16", False),
    ],
)
def test_experts_are_grouped_only_where_torch_does_not_wait_for_the_device(
    gpu: Driver, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str, grouped: bool
) -> None:
    """Its fast path takes bfloat16 on major 9 and 10; elsewhere it reads the offsets back, which no graph can."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    shape = Shape("moe", "", (64, 256, 128, 8, 2), "cold", dtype)
    prepared = kernels(dtype).prepare(shape)
    with OnDevice(launching=True) as seen:
        prepared.launch(0)
    assert ("aten::_grouped_mm" in seen.called) == grouped
    assert ("grouped" in prepared.kernel) == grouped


def test_cudnn_is_tried_for_prompts_only(gpu: Driver) -> None:
    """It builds a plan for each shape: 0.4 s for each of a thousand decode shapes would be a whole sweep's time."""
    tried = {width: [name for name, _ in attention._gpu_launches("", *buffers(width))] for width in (1, 5, 512, 2048)}
    assert tried[1] == tried[5] == ["sdpa flash, causal", "sdpa efficient, additive mask"]
    plans = {width: [name for name in names if "cudnn" in name] for width, names in tried.items()}
    assert (plans[512], plans[2048]) == (["sdpa cudnn, additive mask"], ["sdpa cudnn, causal"])
    prompts = [
        shape
        for shape in shapes(CUDA, "bfloat16", H200.last_level_cache_bytes)
        if shape.kind == "attention" and shape.shape[1] >= attention.PROMPT
    ]
    assert 0.4 * len(prompts) < 0.2 * 480


def test_latent_attention_keeps_no_more_scores_than_fit_beside_other_graphs(gpu: Driver) -> None:
    """Two copies in bfloat16 of each of the two dozen shapes that are captured together."""
    fits, exceeds = (
        Shape("attention", "", (sequences, 16, 32768, 128, 1, 576), "cold", "bfloat16") for sequences in (16, 17)
    )
    assert "softmax" in kernels().prepare(fits).kernel
    with pytest.raises(RuntimeError, match="latent attention"):
        kernels().prepare(exceeds)
    assert H200.memory_bytes > 24 * 2 * 2 * attention.LARGEST_SCORES


def buffers(width: int, keys: int = 2048) -> tuple[Any, list[Any]]:
    queries = torch.empty(2, width, 32, 128, device="cuda", dtype=torch.bfloat16)
    return queries, [torch.empty(2, 2, 8, keys, 128, device="cuda", dtype=torch.bfloat16)]


def test_one_gpu_has_no_collectives(gpu: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(collectives, "start_processes", lambda *args, **_: started.append(args))
    assert list(collectives.collective_rows()) == []
    assert not started


# -- clocks and graphs ------------------------------------------------------------------------------------------------


def test_a_replay_is_queued_before_its_time_starts(gpu: Driver) -> None:
    clock = timer.CudaClock()
    assert clock.seconds(lambda: gpu.log.append("run"), lambda: gpu.log.append("before")) == pytest.approx(0.03)
    assert gpu.log == ["before", f"sleep {timer.LEAD_CYCLES}", "event", "run", "event", "synchronize"]


def test_eager_passes_are_timed_at_the_pace_of_the_host(gpu: Driver) -> None:
    eager = timer.clock_of_mode(timer.CudaClock(), "eager")
    eager.seconds(lambda: gpu.log.append("run"))
    assert gpu.log == ["event", "run", "event", "synchronize"]
    wall = timer.WallClock()
    assert timer.clock_of_mode(wall, "eager") is wall

    capture = timer.GraphCapture()
    timed = PassTimer(CHECKED["cuda"][0], [(2, 3, 64)], "cuda", "bfloat16", timer.CudaClock())
    probe = SimpleNamespace(steadily=lambda take: take())
    for mode in captures_of(capture):
        gpu.log.clear()
        timed.time((2, 3, 64), mode, probe)  # type: ignore[arg-type]
        assert any(line.startswith("sleep") for line in gpu.log) == (mode is capture)


def test_a_graph_is_warmed_up_where_it_is_captured_and_what_waits_is_found_before(gpu: Driver) -> None:
    capture = timer.GraphCapture()
    replay, launches = capture.capture(gpu.launched, launches=4, buffers=3)
    assert launches == 6
    begin, end = gpu.log.index("capture on 1"), gpu.log.index("captured")
    assert gpu.log[begin + 1 : end] == 6 * ["launch on 1"]
    warm = gpu.log[gpu.log.index("1 waits for 0") + 1 : begin]
    assert warm == [*(WARM_UPS - 1) * ["launch on 1"], "launch on 1 unable to wait", "0 waits for 1"]
    assert gpu.waiting_is_an_error == 0
    replay()
    assert gpu.log[-1] == "replay"
    for _ in range(3):
        capture.capture(gpu.launched, launches=1, buffers=1)
    assert gpu.streams == 2  # each would cost a workspace


def test_what_cannot_be_captured_is_refused_before_a_capture_begins(
    gpu: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture that fails leaves torch's allocator unfit for all that follow (pytorch pull request 180395)."""

    def waits(turn: int) -> None:
        gpu.launched()
        if gpu.waiting_is_an_error:
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        timer.GraphCapture().capture(waits, launches=1, buffers=1)
    assert gpu.waiting_is_an_error == 0

    def slow(turn: int) -> None:
        time.sleep(0.02)

    monkeypatch.setattr(timer, "LONGEST_S", 0.01)
    with pytest.raises(RuntimeError, match="one launch takes more than"):
        timer.GraphCapture().capture(slow, launches=1, buffers=1)
    assert not any(line.startswith("capture") for line in gpu.log)


# -- the reference engine ---------------------------------------------------------------------------------------------

SPEC = ModelSpec(
    name="small", source="test", num_layers=3, hidden_size=32, num_heads=4, num_kv_heads=2, head_dim=8,
    intermediate_size=48, vocab_size=37,
)  # fmt: skip


def model(capturing: bool = False, seed: int = 0) -> Transformer:
    made = Transformer(SPEC, device="cuda", dtype=torch.bfloat16, max_sequences=4, max_length=400, seed=seed)
    graphs.capture_passes([made], (1, 2, 4, 8, 16, 24, 32) if capturing else (), 8)
    return made


DRAFTERS: dict[str, Callable[[Transformer, Sampler | None], Drafter]] = {
    "draft model": lambda target, sampler: DraftModel(model(target.graphs is not None, 1), sampler=sampler),
    "look-up": lambda target, sampler: NGram(),
    "feature head": lambda target, sampler: Eagle(target, random_feature_head(target, 1), sampler=sampler),
    "heads": lambda target, sampler: Medusa(target, random_heads(target, 3, 1)),
    "adapter": lambda target, sampler: EarlyExit(target, 1, random_adapter(target, 1, num_kv_heads=2), reuse=True),
    "sublayers": lambda target, sampler: SkippedLayers(target, Sublayers((True, False, True), (True, False, True))),
    "exits": lambda target, sampler: DynamicExit(target, (1, 2)),
    "window": lambda target, sampler: Lookahead(4, 3, 4, 4),
    "grown trees": lambda target, sampler: Grown(DraftModel(model(seed=1)), 2, 2, imposed=chain),
    "merged paths": lambda target, sampler: Merged(DraftModel(model(seed=1)), 2, 2, chain, 0.5),
}


SAMPLING_DRAFTERS = ("draft model", "look-up", "feature head")  # the others propose greedily


@pytest.mark.parametrize("capturing", [False, True], ids=["eager", "graphs"])
@pytest.mark.parametrize(
    ("drafter", "sampling"), [*((name, False) for name in DRAFTERS), *((name, True) for name in SAMPLING_DRAFTERS)]
)
def test_rounds_of_the_engine_keep_each_operator_on_one_device(
    gpu: Driver, drafter: str, sampling: bool, capturing: bool
) -> None:
    """And what is captured on the GPU alone, without a look at any of its values."""
    with OnDevice():
        target = model(capturing)
        sampler = Sampler(0.8, 0, "cuda") if sampling else None
        source = DRAFTERS[drafter](target, sampler)
        draws = None if sampling else AcceptanceDraws(ConstantAcceptance(rate=0.7), 0)
        cell = grid.SteadyBatch(Engine(target, source, draws, sampler), 3, draft_tokens=3, context_tokens=64, seed=0)
        for _ in range(4):
            cell.round()
    assert any(line.startswith("capture on") for line in gpu.log) == capturing
    assert ("replay" in gpu.log) == capturing


# -- a sweep ----------------------------------------------------------------------------------------------------------


def test_a_sweep_writes_a_profile_of_every_kind(gpu: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From header to whole passes: all that a sweep of a GPU calls runs, and nothing is noted as missing."""
    monkeypatch.setattr("specsim.profiling.kernels.launches.MOST_BUFFERS", 3)
    monkeypatch.setattr("specsim.reference.timing.host.CELL_S", 0.01)
    monkeypatch.setattr("specsim.profiling.kernels.host.LAUNCHES", 2)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    small = Grid(
        blocks=(
            Block("gemm", ((1, 64), (256,), (256,)), dtypes=("", "float16", "fp8", "int8", *NARROW)),
            *(Block("attention", ((2,), (1, 4), (128,)), layout) for layout in ((32, 8, 128), (128, 1, 576))),
            Block("attention", ((2,), (4,), (128,)), (32, 8, 128), operations=("tree",)),
            Block("elementwise", ((8,), (256,)), operations=ELEMENTWISE, caches=("warm",)),
            Block("sampling", ((4,), (512,)), operations=SAMPLING, caches=("warm",)),
            Block("moe", ((4,),), (256, 128, 8, 2)),
        ),
        most_flops=1e12,
        most_bytes=1e9,
        pass_tokens=(),
        pass_hidden_sizes=(),
        host_batches=(2,),
        whole_passes=((1, 1, 64), (2, 5, 64)),
    )
    warned: list[str] = []
    folder = run_sweep("cuda", "bfloat16", tmp_path / "profile", grid=small, quick=True, warn=warned.append)
    profile = load_profile(f"{folder}/")
    assert (warned, profile.header.notes) == ([], [])
    assert (profile.header.device_name, profile.header.gpu) == ("NVIDIA H200", "h200")
    assert profile.header.versions["cuda"] == "13.0"
    assert {"bfloat16", "fp8", "int8"} == set(profile.header.ceilings.flops_per_s)
    counted = {kind: len(rows) for kind, rows in profile.rows.items() if rows}
    assert counted == {"gemm": 14, "attention": 5, "elementwise": 6, "sampling": 4, "moe": 1, "host": 8, "pass": 8}
    assert {row.mode for row in profile.rows["pass"]} == {"eager", "graph"}
