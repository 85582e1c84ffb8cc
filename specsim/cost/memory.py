"""Room for KV blocks: a GPU's memory minus what vLLM's start-up profiling finds in use, counted as vLLM counts it.

vLLM takes ``gpu_memory_utilization`` of all memory, loads the weights, runs one dummy pass of
``max_num_batched_tokens`` tokens with ``max_num_seqs`` rows of logits, and gives what the peak left to KV blocks
(``Worker.determine_available_memory``, read in 0.32.0). The CUDA context and NCCL's start are there before it begins
to count, so its share does not pay for them. What else it counts changed with its releases: an ``Accounting`` says
which are meant. Its constants come from the logs of single starts; others are met to 0.1 GiB in the median and missed
by up to 0.9 (tests/cost/test_memory.py lists them). An engine's own block count, ``num_kv_blocks``, is better.

How a sequence takes blocks is in ``cache``. Not modelled: multimodal encoders, and buffers of expert parallelism.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from specsim.cost.cache import CacheLayout, cache_layout
from specsim.errors import NoAnswer
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineLimits
from specsim.specs.feed_forward import Dense, Experts
from specsim.specs.formats import Stored
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart, as_part
from specsim.units import GB

GIB = 2**30
WIDE_BITS = 16  # embeddings, LM head, norms, biases and routers of a checkpoint with narrow linear layers
GRAPH_BYTES = 194e3  # a captured graph and layer; 0.56 GiB for 86 graphs of Qwen3-8B (vLLM 0.27.1, RTX 4090)


@dataclass(frozen=True, slots=True)
class Accounting:
    """What a line of vLLM releases counts beside weights and cache on one GPU.

    ``context_bytes``: growth of memory outside of PyTorch while the model loads and runs (kernels, workspaces).
    ``communication_bytes``: more of it with tensor parallelism. ``logit_bytes``: peak of the sampler for each logit
    of its ``max_num_seqs`` rows. ``graphs_counted``: captured graphs come out of the same share of memory.
    ``compile_factor`` multiplies the peak of the forward pass: 1 where compiled code comes from vLLM's cache.
    """

    context_bytes: float
    communication_bytes: float
    logit_bytes: float
    graphs_counted: bool
    compile_factor: float = 1.0

    def outside_bytes(self, tensor_parallel: int) -> float:
        """Of a GPU, outside of PyTorch."""
        return self.context_bytes + (self.communication_bytes if tensor_parallel > 1 else 0.0)


# Model Runner V2, default of dense models since 0.25 and of most others since 0.29, keeps logits in 16 bits. It counts
# graphs in 0.32.0 and did not in 0.27.1 (vLLM issue 49224). Context: Qwen3-8B on an RTX 4090, 0.27.1. Communication:
# not logged for it, taken from VLLM_0_11.
VLLM_0_32 = Accounting(0.27 * GIB, 0.42 * GIB, 2.0, graphs_counted=True)
# 0.10 to 0.15: Llama-3.1-8B (4.76 GiB of activations at 1,024 rows, 0.13 outside of PyTorch) and Llama-3.3-70B on two
# ranks (0.55) on H100, vLLM 0.11 (llm-d-benchmark, config_explorer/empirical-vllm-memory-results.md).
VLLM_0_11 = Accounting(0.13 * GIB, 0.42 * GIB, 38.4, graphs_counted=False)
# The first start of a model compiles it, and the compiler's trial inputs are part of the peak: 1.18 GiB, then 0.19 GiB
# from the cache (Qwen3-8B at 2,048 tokens, RTX 4090, 0.27.1). Not known for more tokens.
COLD_COMPILE_FACTOR = 6.3


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Where one GPU's memory goes; all in bytes but ``blocks``.

    ``kv`` is the whole cache: ``blocks`` of ``block_bytes``, target and drafter together, taken as ``layout`` says.
    """

    total_bytes: float
    usable_bytes: float
    weights: float
    draft_weights: float
    context: float
    activations: float
    graphs: float
    blocks: int
    layout: CacheLayout

    @property
    def block_bytes(self) -> float:
        return self.layout.block_bytes

    @property
    def kv(self) -> float:
        return self.blocks * self.block_bytes


def memory_budget(
    target: ModelSpec | ModelPart,
    drafter: Sequence[ModelPart],
    hardware: Hardware,
    deployment: Deployment,
    engine: EngineLimits,
    accounting: Accounting = VLLM_0_32,
    *,
    scratch_bytes: float = 0.0,
    max_draft_tokens: int = 0,
) -> MemoryBudget:
    """The memory of one GPU as vLLM divides it; the models are one rank's (``ModelPart.shard``).

    ``num_kv_blocks`` of the engine, when given, overrides the arithmetic: it is what the engine's log printed.
    Llama-3.1-8B on an H200 at 0.9: 109.2 GiB of cache, 55,921 blocks. ``drafter`` holds what drafting adds, with its
    own weight bits; ``scratch_bytes`` is more of it, less if negative.

    One block id indexes the caches of target and drafter, so a block's bytes are the sum of both (vLLM puts all
    full-attention layers into one group, whatever their width). On a CPU there are no context and no graphs. Raises
    NoAnswer, unless ``num_kv_blocks`` is given, if not one block fits.
    """
    parts = [as_part(target), *(part for part in drafter if part.mixers)]
    on_gpu = hardware.kind == "gpu"
    weights = resident_weight_bytes(target, deployment.stored)
    draft_weights = sum(resident_weight_bytes(part) for part in drafter) + scratch_bytes
    usable = float(ceil(hardware.memory_bytes * engine.gpu_memory_utilization))
    context = accounting.outside_bytes(deployment.tensor_parallel) if on_gpu else 0.0
    activations = _activation_bytes(parts, deployment.tensor_parallel, engine, accounting)
    graphs = _graph_bytes(parts[0].model, drafter, engine) if on_gpu and accounting.graphs_counted else 0.0
    layout = cache_layout([parts[0], *drafter], engine.block_size, deployment.kv_bits, max_draft_tokens)
    stated, room = engine.num_kv_blocks, usable - weights - draft_weights - context - activations - graphs
    if stated is None and room < layout.block_bytes:
        raise _does_not_fit(parts, hardware, weights + draft_weights, usable)
    blocks = int(room // layout.block_bytes) if stated is None else stated // layout.full_groups
    return MemoryBudget(
        hardware.memory_bytes,
        usable,
        weights,
        draft_weights,
        context,
        activations,
        graphs,
        blocks,
        layout,
    )


def resident_weight_bytes(model: ModelSpec | ModelPart, stored: Stored | None = None) -> float:
    """Bytes in memory of a model's weights, or a part's: linear layers as ``stored`` (None: its own), others wide.

    Common checkpoints leave embeddings, LM head, norms, biases and MoE routers at 16 bits or more. Scales count, and
    the rotary table of all positions, as in the engine's "Model loading took". Llama-3.1-8B: 14.99 GiB; Llama-3.3-70B
    with 8-bit linear layers: 67.70 GiB.
    """
    part = as_part(model)
    spec = part.model
    narrow = (stored or spec.stored).bits
    wide = max(narrow, WIDE_BITS)
    linears = [linear for linear in part.linears() if linear.name not in ("lm_head", "router")]
    usual = sum(linear.parameters for linear in linears if linear.stored is None)
    others = [(linear.parameters, linear.stored.bits) for linear in linears if linear.stored is not None]
    weight_bits = usual * narrow + sum(count * bits for count, bits in others)
    rotary = 0
    if part.embedding and not spec.learned_positions:  # a drafter's layers look up the target's table
        rotary = spec.max_position * (spec.mla.qk_rope_head_dim if spec.mla else spec.head_dim)
    rest = part.parameter_count() - usual - sum(count for count, _ in others) + rotary
    return (weight_bits + rest * wide) / 8


def _activation_bytes(
    parts: Sequence[ModelPart], tensor_parallel: int, engine: EngineLimits, accounting: Accounting
) -> float:
    """Peak of the profiling run: its widest layer, or the sampler while the hidden states wait.

    The vocabulary is gathered before sampling, so every rank holds whole rows of logits.
    """
    tokens = engine.max_num_batched_tokens
    forward = max(tokens * _layer_bytes_per_token(part) for part in parts) * accounting.compile_factor
    target = parts[0].model
    logits = min(engine.max_num_seqs, tokens) * target.vocab_size * tensor_parallel
    return max(forward, tokens * target.hidden_size * WIDE_BITS / 8 + logits * accounting.logit_bytes)


def _layer_bytes_per_token(part: ModelPart) -> float:
    """Bytes a token holds inside the widest layer: residual, normed input and output, and a product's two sides.

    Llama-3.1-8B: 3·4,096 + 2·14,336 + 14,336 values of 16 bits, 110,592 bytes.
    """
    hidden = part.model.hidden_size
    widths = [one.width for one, _ in part.stack.mixers]
    for one, _ in part.stack.feed_forward:
        widths.append(one.width if isinstance(one, Dense) else _experts_width(one, hidden))
    return (3 * hidden + max(widths)) * WIDE_BITS / 8


def _experts_width(routed: Experts, hidden: int) -> int:
    """Every routed copy of a token has its own row; input side and output share a buffer."""
    moe, inputs = routed.moe, 2 if routed.gated else 1
    row = max(inputs * moe.intermediate_size, moe.latent_size or hidden) + moe.intermediate_size
    return moe.experts_per_token * row


def _graph_bytes(target: ModelSpec, drafter: Sequence[ModelPart], engine: EngineLimits) -> float:
    """Graphs of every size for mixed steps, and for steps of decodes alone those up to ``max_num_seqs``."""
    sizes = engine.captured_sizes(0, on_gpu=True)
    decode = sum(size <= engine.max_num_seqs for size in sizes)
    draft_layers = sum(part.mixers for part in drafter)
    return GRAPH_BYTES * (target.num_layers * (len(sizes) + decode) + draft_layers * len(sizes))


def _does_not_fit(parts: Sequence[ModelPart], hardware: Hardware, weights: float, usable: float) -> NoAnswer:
    names = " and ".join(part.model.name for part in parts) + (" does" if len(parts) == 1 else " do")
    return NoAnswer(
        f"{names} not fit {hardware.name}: {weights / GB:.1f} GB of weights, {usable / GB:.1f} GB usable; "
        "lower weight_bits, raise tensor_parallel or gpu_memory_utilization, or take a larger GPU"
    )
