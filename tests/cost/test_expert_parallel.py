"""Experts divided among GPUs: what is conserved, what each holds and sends, and published times of the exchange."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.assembly import assemble
from specsim.cost.collective import collective_s
from specsim.cost.exchanges import collective_kernels
from specsim.cost.forward import Group, Kernel, Precision, token_kernels
from specsim.cost.passes import PassCost
from specsim.cost.roofline import Roofline
from specsim.errors import NoAnswer
from specsim.scenario import Scenario
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.deployment import Deployment, ExpertGroup
from specsim.specs.model_part import ModelPart, as_part

V3, MIXTRAL, H100 = load_model("deepseek-v3"), load_model("mixtral-8x7b"), load_hardware("h100-sxm")
FP8 = Precision.on(H100, 8)
H800 = H100.model_copy(update={"name": "H800", "link_bytes_per_s": 200e9})  # NVLink at 400 GB/s both ways
ROUTED = 58 * 256 * 3 * 7168 * 2048

# github.com/deepseek-ai/DeepEP, docs/legacy.md: low-latency kernels, 128 tokens of 7,168 values to 8 experts, us
DISPATCH_US = {8: 77, 16: 118, 32: 155, 64: 173, 128: 192, 256: 194}
COMBINE_US = {8: 114, 16: 195, 32: 273, 64: 314, 128: 369, 256: 360}


def exchanges(tokens: int, ranks: int = 1, **group: Any) -> list[Kernel]:
    kernels = collective_kernels(V3, ranks, tokens, tokens, FP8, ExpertGroup(**group))
    return [kernel for kernel in kernels if kernel.operation == "all_to_all"]


def test_what_is_sent_is_a_copy_for_each_expert() -> None:
    """DeepEP counts 128·8·7,168 bytes and a scale for each 128 there, twice as many back."""
    there, back = exchanges(128, gpus=64, data_parallel=64)
    assert there.shape[0] == 128 * 8 * (7168 + 4 * 56)
    assert back.shape[0] == 128 * 8 * 7168 * 2
    assert there.count == back.count == 58  # 61 layers, the first three dense


@pytest.mark.parametrize("ranks", [16, 32, 64, 128, 256])
def test_dispatch_takes_what_was_published(ranks: int) -> None:
    """The latency across nodes is the mean of what these leave."""
    there, _ = exchanges(128, gpus=ranks, data_parallel=ranks)
    assert collective_s(there, H800) == pytest.approx(1e-6 * DISPATCH_US[ranks], rel=0.05)


@pytest.mark.parametrize("ranks", [16, 32, 64, 128, 256])
def test_combine_takes_what_was_published_though_nothing_was_taken_from_it(ranks: int) -> None:
    _, back = exchanges(128, gpus=ranks, data_parallel=ranks)
    assert collective_s(back, H800) == pytest.approx(1e-6 * COMBINE_US[ranks], rel=0.15)


def test_eight_ranks_exchange_over_their_own_link() -> None:
    """Nothing was taken from these either: NVLink's constants are those of all-reduces."""
    there, back = exchanges(128, gpus=8, data_parallel=8)
    assert collective_s(there, H800) == pytest.approx(1e-6 * DISPATCH_US[8], rel=0.2)
    assert collective_s(back, H800) == pytest.approx(1e-6 * COMBINE_US[8], rel=0.2)


def test_each_gpu_holds_whole_experts_and_all_else() -> None:
    """DeepSeek-V3 prefills on 32 GPUs, 8 of 256 experts each (arXiv 2412.19437, section 3.4.1, without copies)."""
    whole, share = as_part(V3), as_part(V3).shard(1, ExpertGroup(32, 32))
    assert whole.parameter_count() - share.parameter_count() == ROUTED * 31 // 32
    assert share.kv_bytes_per_token() == whole.kv_bytes_per_token()
    router = [linear for linear in share.linears() if linear.name == "router"]
    assert [linear.n for linear in router] == [256]


@given(tokens=st.integers(1, 4096), ranks=st.sampled_from([1, 2]), replicas=st.sampled_from([2, 4]))
def test_the_gpus_together_compute_what_one_would(tokens: int, ranks: int, replicas: int) -> None:
    """FLOPs, expert weights and rows of all GPUs are those of one GPU with the tokens of all replicas."""
    group = ExpertGroup(ranks * replicas, replicas)
    share = ModelPart.whole(MIXTRAL).shard(ranks, group)

    def experts(part: ModelPart, tokens: int, group: ExpertGroup | None) -> Kernel:
        (kernel,) = (one for one in token_kernels(part, tokens, tokens, FP8, group) if one.kind == "moe")
        return kernel

    one, alone = experts(share, tokens, group), experts(ModelPart.whole(MIXTRAL), tokens * replicas, None)
    assert one.flops * group.gpus == pytest.approx(alone.flops)
    assert one.bytes * group.gpus == pytest.approx(alone.bytes)
    assert one.count == alone.count


def test_one_replicas_gpus_exchange_by_reducing_as_before() -> None:
    """Without data parallelism every rank has all tokens: whole experts change the products, not what is sent."""
    sliced, spread = (list(collective_kernels(MIXTRAL, 4, 64, 64, FP8, group)) for group in (None, ExpertGroup(4)))
    assert sliced == spread


def test_the_busiest_gpu_is_waited_for() -> None:
    def seconds(tokens: int, imbalance: float) -> float:
        cost = PassCost(V3, Roofline(H100, FP8.dtype), FP8, experts=ExpertGroup(32, 32, imbalance))
        charges = cost.charges([Group(tokens, 1, 4096.0)], warm=False)
        return sum(float(charge.seconds) for charge in charges if charge.part in ("gemm", "communication"))

    assert seconds(256, 1.0) < seconds(256, 1.5) < 1.5 * seconds(256, 1.0)


def deployed(model: str = "deepseek-v3", **deployment: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "experts",
            "model": model,
            "gpu": "h200",
            "deployment": deployment,
            "engine": {"max_num_seqs": 128, "max_num_batched_tokens": 2048},
            "workload": {
                "kind": "synthetic",
                "requests": 16,
                "arrivals": {"kind": "poisson", "rate_per_s": 50.0},
                "lengths": {"kind": "fixed", "prompt_tokens": 256, "output_tokens": 16},
            },
        }
    )


def test_memory_follows() -> None:
    """671 GB of FP8 fit one of 8 H200 only where the experts are divided: 17 GB and an eighth of 654."""
    with pytest.raises(NoAnswer, match="does not fit"):
        assemble(deployed(replicas=8)).memory  # noqa: B018
    eight = assemble(deployed(replicas=8, data_parallel=8, expert_parallel=True)).memory
    sixteen = assemble(deployed(replicas=16, data_parallel=16, expert_parallel=True)).memory
    routed_bytes = ROUTED * (1 + 4 / 128**2)  # a float32 scale for 128 x 128 weights
    assert eight.weights - sixteen.weights == pytest.approx(routed_bytes / 16)
    assert sixteen.block_bytes == eight.block_bytes == 16 * 61 * 576 * 2
    freed = routed_bytes / 16 / eight.block_bytes
    assert sixteen.blocks - eight.blocks == pytest.approx(freed, abs=1)


def test_a_larger_group_reads_fewer_experts_a_step() -> None:
    """At 64 sequences a GPU decoding is bound by weights: 8 experts of each layer on 32 GPUs, 32 on 8.

    Where all of them are one node: else the network takes more than 16 experts fewer give.
    """
    node = load_hardware("h200").model_copy(update={"node_gpus": 32})

    def step_s(count: int) -> float:
        asked = deployed(replicas=count, data_parallel=count, expert_parallel=True).model_copy(update={"gpu": node})
        return float(assemble(asked).cost.decode_round(64, 0, 1024.0).seconds)

    assert step_s(32) < step_s(16) < step_s(8)


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValidationError, match="data_parallel is 2 and expert_parallel is off"):
        Deployment(data_parallel=2, replicas=2)
    with pytest.raises(ValidationError, match="data_parallel 2 does not divide 3 replicas; choose a divisor"):
        Deployment(data_parallel=2, replicas=3, expert_parallel=True)
    with pytest.raises(ValidationError, match="data_parallel 2 does not divide 2 and 3 replicas; choose a divisor"):
        Deployment.model_validate(
            {
                "data_parallel": 2,
                "expert_parallel": True,
                "disaggregation": {"prefill_replicas": 2, "decode_replicas": 3},
            }
        )
    with pytest.raises(ValidationError, match="is 3 GPUs and does not divide 256 experts of DeepSeek-V3"):
        deployed(replicas=3, data_parallel=3, expert_parallel=True)
    with pytest.raises(ValidationError, match=r"expert_parallel is on and Llama-3\.1-8B has no routed experts"):
        deployed("llama-3.1-8b", expert_parallel=True)
