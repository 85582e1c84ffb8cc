"""Models of one kind of layer: what their passes compute and move, to the last bit.

The figures were recorded before a model became a list of layers, from formulas that knew one kind of layer alone; the
products of layers of one kind must not depend on how layers are told.
"""

from __future__ import annotations

import pytest

from specsim.cost.attention import attention_kernels
from specsim.cost.forward import Group, Precision, token_kernels
from specsim.specs.catalog import load_model

BF16 = Precision(16, 16, "bfloat16")
VERIFICATION, PROMPTS = Group(8, 4, 1000.0, 4), Group(2, 512, 700.0, 1)


@pytest.mark.parametrize(
    ("name", "verification", "prompts"),
    [
        ("llama-3.1-8b", (497050189824.0, 16225746944.0), (14534391627776.0, 20293620736.0)),
        ("qwen3-8b", (503204282368.0, 16490979328.0), (14495890014208.0, 20628080128.0)),
        ("mixtral-8x7b", (832661618688.0, 94457380978.45125), (26079834144768.0, 102051230720.0)),
        ("deepseek-v3", (2886845333504.0, 868954905445.9414), (80846441676800.0, 1382057607167.99)),
        ("opt-1.3b", (90180681728.0, 4254668800.0), (2563802660864.0, 4709233024.0)),
    ],
)
def test_layers_of_one_kind_cost_what_they_did(
    name: str, verification: tuple[float, float], prompts: tuple[float, float]
) -> None:
    model = load_model(name)
    for group, recorded in ((VERIFICATION, verification), (PROMPTS, prompts)):
        every = [
            *token_kernels(model, group.tokens, group.sequences * group.logit_rows, BF16),
            *attention_kernels(model, group, BF16),
        ]
        products = [kernel for kernel in every if kernel.kind in ("gemm", "moe", "attention")]
        assert (
            sum(float(kernel.flops * kernel.count) for kernel in products),
            sum(float(kernel.bytes * kernel.count) for kernel in products),
        ) == recorded
