"""Products with narrow weights against float products with what the narrow codes stand for."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiling.kernels.formats import convert, kernel_name, multiply, weight_bytes  # noqa: E402

M, N, K = 5, 128, 256
ROUNDING = 2.0**-8  # of a bfloat16


def operands() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(N, K, generator=generator) * torch.linspace(0.1, 3.0, N)[:, None]
    return torch.randn(M, K, generator=generator).to(torch.bfloat16), weight


def spread(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Σ|x·w|, which bounds what rounding can do to each entry."""
    return x.float().abs() @ weight.abs().T


@pytest.mark.parametrize(
    ("name", "step"), [("int8-weight", 1 / 127), ("int4-weight-g128", 2 / 15), ("int4-weight-g32", 2 / 15)]
)
def test_weight_only_products_are_those_of_the_dequantised_matrix(name: str, step: float) -> None:
    """Each weight is off by at most half a code step of its row's (group's) range, besides bfloat16 rounding."""
    x, weight = operands()
    product = multiply(x, convert(weight, name, "bfloat16")).float()
    largest = weight.abs().amax(dim=1)
    bound = 0.5 * step * x.float().abs().sum(dim=1)[:, None] * largest + 4 * ROUNDING * spread(x, weight)
    error = (product - x.float() @ weight.T).abs()
    assert (error <= bound).all()
    assert (error > 0).any()


def test_smaller_groups_follow_the_weights_more_closely() -> None:
    x, weight = operands()
    exact = x.float() @ weight.T
    wide, narrow = (
        (multiply(x, convert(weight, f"int4-weight-g{g}", "bfloat16")).float() - exact).square().mean()
        for g in (128, 32)
    )
    assert narrow < wide


def test_a_matrix_that_four_bits_hold_exactly_comes_back_exactly() -> None:
    """Codes 0 to 15 times a power of two: nothing is lost, so products agree to bfloat16 rounding of the result."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randint(0, 16, (N, K), generator=generator).float()
    weight[:, ::32] = 0.0
    weight[:, 1::32] = 15.0  # every group spans the whole range
    x = torch.randint(-2, 3, (M, K), generator=generator).to(torch.bfloat16)
    exact = x.float() @ weight.T
    for name in ("int4-weight-g32", "int4-weight-g128"):
        product = multiply(x, convert(weight, name, "bfloat16")).float()
        assert torch.allclose(product, exact, rtol=2 * ROUNDING, atol=1e-3)


@pytest.mark.parametrize("highest", [1, 100])
def test_integer_products_are_exact(highest: int) -> None:
    """oneDNN adds 128 to the rows; without VNNI it sums pairs of products in 16 bits, enough for rows of at most 0."""
    if highest > 1 and not (torch.cpu._is_vnni_supported() and torch.backends.cpu.get_cpu_capability() != "AVX2"):
        pytest.skip("without VNNI products of 8-bit integers saturate")
    _, weight = operands()
    x = torch.randint(-100, highest, (32, K), dtype=torch.int8)
    converted = convert(weight, "int8", "bfloat16")
    codes = converted.tensors[0]
    assert torch.equal(multiply(x, converted).long(), x.long() @ codes.long().T)


@pytest.mark.parametrize("name", ["bfloat16", "int8-weight", "int4-weight-g32"])
def test_a_clone_is_the_same_matrix_elsewhere(name: str) -> None:
    x, weight = operands()
    one = convert(weight, name, "bfloat16")
    other = one.clone()
    assert torch.equal(multiply(x, one), multiply(x, other))
    assert kernel_name(one) == kernel_name(other)
    if not one.tensors[0].is_mkldnn:
        assert one.tensors[0].data_ptr() != other.tensors[0].data_ptr()


def test_weight_bytes_worked() -> None:
    assert weight_bytes(4096, 4096, "bfloat16") == 2 * 4096**2
    assert weight_bytes(4096, 4096, "int8-weight") == 4096**2
    assert weight_bytes(4096, 4096, "int4-weight-g128") == 4096**2 / 2 + 4 * 4096 * 32
