"""How a serving engine runs: limits, scheduler, graphs and host, under vLLM's names for them."""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator

from specsim.arrays import Reals
from specsim.specs.host_time import HostTimes
from specsim.validated import Validated

EngineKind = Literal["vllm", "sglang", "tensorrt-llm", "reference"]
GraphMode = Literal["full_and_piecewise", "full_decode_only", "piecewise", "none"]


class EngineLimits(Validated):
    """What one replica may hold and schedule.

    The defaults here are those of the reference engine. In a scenario what is left out is what the engine of ``kind``
    does (``engine_defaults``), at ``version``; without a kind vLLM's newest known on a GPU, else the reference engine.

    ``graph_sizes``: token counts with a captured CUDA graph, ascending; None is ``captured_sizes`` on a GPU and none
    on a CPU, an empty list runs eagerly. ``graph_mode``, as vLLM names it: steps of one width a sequence (decoding,
    verifying) and mixed steps are captured whole and in pieces around attention (full_and_piecewise), only the former
    and whole (full_decode_only), both in pieces (piecewise), or nothing is (none). ``graph_grid``: whose sizes;
    ``max_graph_size``: the largest, in tokens for vLLM, else in requests.
    ``host``: the host's work; ``async_scheduling`` hides it behind the device's but for what it says is exposed, and
    chooses a step's work when the one before it begins.
    ``host_step_s`` and ``host_draft_pass_s`` take the place of all of a step's, of a draft pass's.
    ``frontend_request_s``: from a client to the scheduler (HTTP, template, tokens); ``frontend_response_s``: of a
    token back to it; ``frontend_error``: one standard deviation of the logarithm of either, from server to server.
    ``draft_slots_for``: whom the tokens of the budget that drafting takes are kept free for, the requests of the step
    (scheduled) or ``max_num_seqs`` of them, however few there are.
    ``attention_backend``: whose attention kernels run; ``fused_kernels``: operations that run as one kernel.
    ``logit_bytes``: what choosing a token moves for each of the target's logits.

    ``num_kv_blocks`` is what vLLM prints as GPU blocks; one of them, the null block, never holds a token.
    ``long_prefill_token_threshold`` cuts prompt chunks while other requests exist (0: no cut), ``_adaptive`` never
    below an equal share of the budget. ``scheduler_reserve_full_isl`` admits a request only when its whole prompt
    fits the free blocks. ``watermark``: share of all blocks that an admission leaves free while others run.
    ``max_model_len``: the longest sequence; None: no limit but the KV cache.
    ``rules``: whose scheduler chooses a step's work, see ``scheduling.rules`` and ``scheduling.sglang``;
    ``mixed_chunks``: under SGLang's, decoding does not pause while prompts are computed;
    ``num_reserved_decode_tokens``: under SGLang's, what a decode replica keeps free for each request that it holds.
    ``kv_spread``: 0 where attention reads each sequence's own keys (paged attention). Where it pads a batch to its
    longest sequence, as the reference engine does on a CPU: half the range of the lengths in a batch over their mean.
    """

    kind: EngineKind | None = None
    version: str | None = None
    max_num_seqs: int = Field(256, gt=0, le=65_536)
    max_num_batched_tokens: int = Field(8192, gt=0, le=10_000_000)
    block_size: int = Field(16, gt=0, le=65_536)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    num_kv_blocks: Annotated[int, Field(gt=0, le=100_000_000)] | None = None  # None: from memory, see cost.memory
    chunked_prefill: bool = True
    prefix_caching: bool = False
    rules: Literal["vllm", "sglang"] = "vllm"
    mixed_chunks: bool = False
    num_reserved_decode_tokens: NonNegativeInt = 512
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    long_prefill_token_threshold: NonNegativeInt = 0
    long_prefill_token_threshold_adaptive: bool = False
    scheduler_reserve_full_isl: bool = True
    watermark: float = Field(0.0, ge=0, lt=1)
    max_model_len: PositiveInt | None = None
    graph_sizes: tuple[PositiveInt, ...] | None = None
    graph_mode: GraphMode = "full_and_piecewise"
    graph_grid: Literal["vllm", "sglang", "tensorrt-llm"] = "vllm"
    max_graph_size: int = Field(512, gt=0, le=65_536)
    draft_slots_for: Literal["scheduled", "max_num_seqs"] = "scheduled"
    attention_backend: str | None = None
    fused_kernels: tuple[tuple[str, ...], ...] = ()
    logit_bytes: float = Field(4.0, gt=0, le=1000)
    async_scheduling: bool = False
    frontend_request_s: float = Field(0.0, ge=0, le=60)
    frontend_response_s: float = Field(0.0, ge=0, le=60)
    frontend_error: float = Field(0.0, ge=0, le=3)
    host: HostTimes = HostTimes()
    host_step_s: NonNegativeFloat | None = None  # None: from the profile, else as ``host`` says
    host_draft_pass_s: NonNegativeFloat | None = None
    kv_spread: float = Field(0.0, ge=0, lt=1)

    @field_validator("kind", mode="before")
    @classmethod
    def _in_any_case(cls, kind: object) -> object:
        return kind.lower() if isinstance(kind, str) else kind

    @field_validator("graph_sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if sizes is not None and list(sizes) != sorted(set(sizes)):
            raise ValueError(f"sizes {list(sizes)} do not ascend; sort them and name each once")
        return sizes

    @property
    def name(self) -> str:
        """Kind and version, for answers."""
        return " ".join(filter(None, (self.kind, self.version)))

    def captured_sizes(self, max_draft_tokens: int, *, on_gpu: bool) -> tuple[int, ...]:
        """Token counts with a captured graph: as given, else the engine's own on a GPU and none on a CPU."""
        if self.graph_mode == "none":
            return ()
        if self.graph_sizes is not None:
            return self.graph_sizes
        if not on_gpu:
            return ()
        if self.graph_grid == "vllm":
            return default_graph_sizes(self.max_num_seqs, max_draft_tokens, self.max_graph_size)
        most = min(self.max_num_seqs, self.max_graph_size)
        width = 1 + max_draft_tokens
        return tuple(count * width for count in graph_batches(self.graph_grid, most, drafting=width > 1))

    def padded_kv(self, kv_tokens: Reals, sequences: Reals) -> Reals:
        """Keys that attention reads a sequence, in a batch of a mean KV length.

        The expected maximum of n lengths that are uniform within ±``kv_spread`` of their mean is
        mean·(1 + kv_spread·(n - 1)/(n + 1)): 220 for 10 sequences of 192 with a spread of 0.178.
        """
        if not self.kv_spread:
            return kv_tokens
        return kv_tokens * (1.0 + self.kv_spread * np.maximum(0.0, sequences - 1.0) / (sequences + 1.0))


def default_graph_sizes(max_num_seqs: int, max_draft_tokens: int = 0, largest: int = 512) -> tuple[int, ...]:
    """Token counts that vLLM captures graphs for by default, ascending (rule of ``_set_cudagraph_sizes`` in 0.32.0).

    1, 2, 4, multiples of 8 below 256 and of 16 from there, up to twice the tokens of a full decode batch and at most
    ``largest`` (vLLM: 512, on data-centre Blackwell 1,024). Where they fit, decode batches of 1 + ``max_draft_tokens``
    tokens a request are added for request counts on the same grid, and the full batch. vLLM also cuts the list at
    ``max_num_batched_tokens``, which no step exceeds. Without drafts, 256 requests: 51 sizes, 1 to 512.
    """
    width = 1 + max_draft_tokens
    most = min(2 * max_num_seqs * width, largest)
    requests = min(max_num_seqs, largest)
    batches = {count * width for count in (*_graph_grid(requests), requests)}
    return tuple(sorted({*_graph_grid(most), *(size for size in batches if size <= most)}))


def graph_batches(grid: Literal["sglang", "tensorrt-llm"], most: int, *, drafting: bool) -> tuple[int, ...]:
    """Numbers of requests whose decode step is captured, up to ``most``, by engines that count requests.

    SGLang: ``ServerArgs._generate_cuda_graph_batch_sizes`` (read in 0.5.6), finer where it drafts. TensorRT-LLM:
    ``CudaGraphConfig`` (1.0, no padding): every number below 32, then 32, 64, 128 and powers of two.
    """
    if grid == "tensorrt-llm":
        counts = [*range(1, 33), *(2**i for i in range(6, 12))]
    elif drafting:
        counts = [*range(1, 9), *range(10, 33, 2), *range(40, 65, 4), *range(72, 257, 8), *range(272, most + 1, 16)]
    else:
        counts = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), *range(512, most + 1, 32)]
    return tuple(count for count in counts if count <= most)


def _graph_grid(most: int) -> tuple[int, ...]:
    return tuple(size for size in (1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16)) if size <= most)


def pad_to_graph(tokens: Reals, sizes: tuple[int, ...]) -> tuple[Reals, bool | NDArray[np.bool_]]:
    """(tokens that run, whether a captured graph runs them), for one token count or an array of them.

    A step is padded to the next of ``sizes``, which ascend; above the largest it runs as it is, without a graph.
    ``pad_to_graph(9, (8, 16))`` is (16, True), ``pad_to_graph(17, (8, 16))`` is (17, False).
    """
    if not isinstance(tokens, np.ndarray):
        index = bisect_left(sizes, tokens)
        return (sizes[index], True) if index < len(sizes) else (tokens, False)
    padded = np.append(np.asarray(sizes, dtype=np.float64), np.inf)[np.searchsorted(sizes, tokens)]
    captured = np.isfinite(padded)
    return np.where(captured, padded, tokens), captured
