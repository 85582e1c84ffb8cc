"""Room for KV blocks: what is left of the GPU's memory after weights and a working reserve.

Not modelled yet: captured graphs and activation peaks one by one; they are the reserve.
"""

from __future__ import annotations

from specsim.errors import NoAnswer
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.units import GB

RESERVE_SHARE = 0.02  # of memory, for activations, graphs and the CUDA context; an assumption


def kv_blocks(
    target: ModelSpec,
    draft: ModelSpec | None,
    hardware: Hardware,
    deployment: Deployment,
    engine: EngineLimits,
) -> int:
    """KV blocks of one replica, a block holding ``block_size`` tokens of target and draft model together.

    ``num_kv_blocks`` of the engine, when given, overrides the arithmetic: it is what the engine's log printed.
    Raises NoAnswer if the weights leave no room. Llama-3.1-8B on an H200 at 0.9: 116.0 GB, 55,330 blocks.
    """
    models = [target] if draft is None else [target, draft]
    weights = sum(model.weight_bytes(deployment.weight_bits) for model in models)
    usable = hardware.memory_bytes * engine.gpu_memory_utilization
    per_block = engine.block_size * sum(model.kv_bytes_per_token(deployment.kv_bits) for model in models)
    if engine.num_kv_blocks is not None:
        return engine.num_kv_blocks
    room = usable - weights - RESERVE_SHARE * hardware.memory_bytes
    if room < per_block:
        names = " and ".join(model.name for model in models) + (" does" if draft is None else " do")
        raise NoAnswer(
            f"{names} not fit {hardware.name}: {weights / GB:.1f} GB of weights, {usable / GB:.1f} GB usable; "
            "lower weight_bits, raise gpu_memory_utilization, or take a larger GPU"
        )
    return int(room // per_block)
