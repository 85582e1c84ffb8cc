"""What other CPUs answer, by stand-ins for their refusals, and that everything runs there all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiling.device.machine import default_dtype, inspect  # noqa: E402
from specsim.reference.network import cpu  # noqa: E402
from specsim.reference.network.kernels import linear, pack  # noqa: E402
from specsim.reference.network.transformer import TokenGroup, Transformer  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402

REFUSAL = (
    "mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx_ne_convert or avx512bw, avx512vl and avx512dq"
)


@dataclass(frozen=True)
class StandIn:
    """A CPU and a build of torch. ``packs``: dtypes whose weights it reorders, None where it has no such operation."""

    machine: str
    packs: tuple[torch.dtype, ...] | None
    bfloat16: bool  # instructions of its own
    default: str


STAND_INS = {
    "x86 with AVX2": StandIn("x86_64", (torch.float32,), False, "float32"),
    "x86 with AVX-512 and no BF16": StandIn("x86_64", (torch.float32, torch.bfloat16), False, "float32"),
    "x86 with AVX512_BF16": StandIn("x86_64", (torch.float32, torch.bfloat16), True, "bfloat16"),
    "x86, torch without oneDNN": StandIn("x86_64", None, True, "float32"),
    "ARM without BF16": StandIn("aarch64", None, False, "float32"),
    "ARM with BF16": StandIn("aarch64", None, True, "bfloat16"),
}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    cpu.this_cpu.cache_clear()
    yield
    cpu.this_cpu.cache_clear()


@pytest.fixture(params=STAND_INS)
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    one = STAND_INS[request.param]
    operations = torch.ops.mkldnn
    reorder: Callable[..., torch.Tensor] = operations._reorder_linear_weight

    def refusing(weight: torch.Tensor, rows: int) -> torch.Tensor:
        if one.packs is None:
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")
        if weight.dtype not in one.packs:
            raise RuntimeError(REFUSAL)
        return reorder(weight, rows) if weight.dtype == torch.float32 else weight.to_mkldnn()

    monkeypatch.setattr(operations, "_reorder_linear_weight", refusing)
    monkeypatch.setattr(operations, "_linear_pointwise", lambda *_: None)
    monkeypatch.setattr(cpu.platform, "machine", lambda: one.machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: one.packs is not None)
    for owner, question in (
        (torch.cpu, "_is_avx512_bf16_supported"),
        (operations, "_is_mkldnn_bf16_supported"),
    ):
        monkeypatch.setattr(owner, question, lambda: one.bfloat16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    return one


def test_the_default_dtype_is_what_is_native(stand_in: StandIn) -> None:
    found = cpu.this_cpu()
    assert found.packed == frozenset(stand_in.packs or ())
    assert found.default_dtype == default_dtype("cpu") == stand_in.default
    assert found.emulation("float32") is None
    told = found.emulation("bfloat16")
    assert (told is None) == (stand_in.default == "bfloat16")
    assert told is None or (told.startswith("bfloat16 is emulated") and "\n" not in told)
    assert "float16 is emulated" in str(found.emulation("float16"))


def test_a_gpu_is_measured_in_bfloat16_whatever_its_host(stand_in: StandIn) -> None:
    assert default_dtype("cuda") == "bfloat16"


def test_products_are_the_same_packed_or_not(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cpu.this_cpu()
    monkeypatch.undo()
    cpu.this_cpu.cache_clear()
    monkeypatch.setattr("specsim.reference.network.kernels.this_cpu", lambda: asked)
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(size, 96, generator=generator, dtype=torch.float64) for size in (64, 5))
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        if dtype in asked.packed and dtype not in cpu.this_cpu().packed:
            continue  # a stand-in cannot lend this CPU what it lacks
        stored = pack(weight.to(dtype))
        assert stored.is_mkldnn == (dtype in asked.packed)
        error = (linear(x.to(dtype), stored).double() - x @ weight.T).abs().max()
        assert error < 60 * torch.finfo(dtype).eps  # products of some 10, rounded


def test_a_whole_pass_runs_without_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(
        name="tiny",
        source="test",
        num_layers=2,
        hidden_size=32,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=48,
        vocab_size=50,
    )

    def logits(dtype: torch.dtype) -> torch.Tensor:
        import numpy as np

        model = Transformer(spec, device="cpu", dtype=dtype, max_sequences=1, max_length=16, seed=0)
        start = np.zeros(1, dtype=np.int64)
        with torch.inference_mode():
            found: torch.Tensor = model.run(model.plan([TokenGroup(start, torch.arange(8)[None, :], start, 8)]))
        return found.float().reshape(-1, spec.vocab_size)

    packed = logits(torch.float32)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    cpu.this_cpu.cache_clear()
    assert not cpu.this_cpu().packed
    assert (logits(torch.float32) - packed).abs().max() < 1e-4 * packed.abs().max()
    assert (logits(torch.bfloat16) - packed).abs().max() < 0.1 * packed.abs().max()


def test_one_core_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert cpu.this_cpu().threads == 1
    assert inspect("cpu").slug().endswith("-1-threads")
