"""Attention launches: the kernels that torch ships for a shape, the fastest of those that take it.

On a CPU that is the reference engine's own. On a GPU causal attention may run without a mask in memory (flash, cuDNN)
and any attention with one (efficient, cuDNN); absorbed latent attention, too wide for all, as products and a softmax.
cuDNN builds a plan for every shape, which takes it 0.4 s (github.com/sgl-project/sglang, pull request 4650; the same
in github.com/modelscope/FunASR, issue 3704): it is tried for prompts only, which are few and where it is at its best.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from specsim.profiling.device.timer import Capture, Clock, KernelLaunch
from specsim.reference.network.kernels import attend, attention_mask, tree_mask

LATENT_SHARE = 512 / 576  # values of absorbed latent attention are the first 512 of its 576 (DeepSeek-V2)
WIDEST_FLASH = 256  # head size
PROMPT = 128  # query tokens a sequence, from which on cuDNN is tried
COMPARED = 3  # replays of each kernel, of which the shortest counts
LARGEST_MASK = 2**29  # values; kernels that need none are tried alone beyond it
LARGEST_SCORES = 2**30  # values of absorbed latent attention, which keeps them twice
CPU_KERNEL = "scaled_dot_product_attention, additive mask"


def parents_of(nodes: int) -> list[int]:
    """A binary draft tree, breadth first; node 0 is the last committed token."""
    return [(node - 1) // 2 if node else -1 for node in range(nodes)]


def mask_of(operation: str, sequences: int, width: int, keys: int, fold: int, like: Tensor) -> Tensor | None:
    """Additive mask of a batch, None for a single token. Causal ends differ by a few, as they do in serving."""
    if operation == "tree":
        starts = torch.full((sequences,), keys - width, device=like.device)
        return tree_mask(parents_of(width), starts, keys, fold, like.dtype)
    if sequences == width == 1:
        return None
    ends = keys - 1 - torch.arange(sequences, device=like.device) % max(1, min(4, keys - width))
    positions = ends[:, None] - torch.arange(width - 1, -1, -1, device=like.device)
    return attention_mask(positions, keys, fold, like.dtype)


def reference_launch(queries: Tensor, caches: list[Tensor], mask: Tensor | None) -> KernelLaunch:
    """The reference engine's attention over caches [2, n, kv_heads, keys, head_dim] in turn."""
    return lambda turn: attend(queries, caches[turn][0], caches[turn][1], mask)


def fastest_on_gpu(
    operation: str, queries: Tensor, caches: list[Tensor], clock: Clock, capture: Capture
) -> tuple[KernelLaunch, str]:
    """The fastest launch that runs, and its name; raises RuntimeError if none does."""
    best: tuple[float, KernelLaunch, str] | None = None
    for name, launch in _gpu_launches(operation, queries, caches):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch explains at length which backend refused the shape
                replay, launches = capture.capture(launch, launches=1, buffers=len(caches))
                replay()
                seconds = min(clock.seconds(replay) for _ in range(COMPARED)) / launches
        except (RuntimeError, ValueError):  # this backend does not take the shape
            continue
        if best is None or seconds < best[0]:
            best = (seconds, launch, name)
    if best is None:
        raise RuntimeError("no attention kernel of this torch takes the shape")
    return best[1], best[2]


def _gpu_launches(operation: str, queries: Tensor, caches: list[Tensor]) -> Iterator[tuple[str, KernelLaunch]]:
    sequences, width, heads, head_dim = queries.shape
    kv_heads, keys = caches[0].shape[2], caches[0].shape[3]
    if head_dim > WIDEST_FLASH:
        if sequences * width * heads * keys > LARGEST_SCORES:
            raise RuntimeError(f"more than {LARGEST_SCORES} scores of latent attention are not kept")
        mask = mask_of(operation, sequences, width, keys, 1, queries)
        yield "matmul, softmax, matmul", _latent(queries, caches, mask)
        return
    plain = {"flash": SDPBackend.FLASH_ATTENTION}
    masked = {"efficient": SDPBackend.EFFICIENT_ATTENTION}
    if width >= PROMPT:  # without a mask where it needs none: for a later part of a prompt torch would make one
        (plain if operation == "" and width == keys else masked)["cudnn"] = SDPBackend.CUDNN_ATTENTION
    if operation == "":
        for name, backend in plain.items():
            yield f"sdpa {name}, causal", _with(backend, _causal(queries, caches))
        if sequences * width * heads * keys > kv_heads * LARGEST_MASK:
            return
    mask = mask_of(operation, sequences, width, keys, heads // kv_heads, queries)
    for name, backend in masked.items():
        yield f"sdpa {name}, additive mask", _with(backend, reference_launch(queries, caches, mask))


def _with(backend: SDPBackend, launch: KernelLaunch) -> KernelLaunch:
    def run(turn: int) -> object:
        with sdpa_kernel(backend):
            return launch(turn)

    return run


def _causal(queries: Tensor, caches: list[Tensor]) -> KernelLaunch:
    """Queries aligned to the last key: no mask for one token, is_causal for a prompt, else a lower-right bias."""
    width, keys = queries.shape[1], caches[0].shape[3]
    turned = queries.transpose(1, 2)
    options: dict[str, object] = {"enable_gqa": queries.shape[2] != caches[0].shape[2]}
    if width == keys:
        options["is_causal"] = True
    elif width > 1:
        options["attn_mask"] = lower_right_bias(width, keys)
    attention: Callable[..., Tensor] = F.scaled_dot_product_attention
    return lambda turn: attention(turned, caches[turn][0], caches[turn][1], **options)


def lower_right_bias(width: int, keys: int) -> Tensor:
    """The causal mask that flash attention takes, its last query at the last key."""
    from torch.nn.attention.bias import causal_lower_right  # imports PyTorch's compiler: more than a second

    return causal_lower_right(width, keys)


def _latent(queries: Tensor, caches: list[Tensor], mask: Tensor | None) -> KernelLaunch:
    """Absorbed latent attention: one cached vector a token is key and, but for its rotary part, value.

    All heads of a token see the same keys: ``mask`` is [n, 1, width, keys].
    """
    sequences, width, heads, size = queries.shape
    rows = queries.reshape(sequences, width * heads, size) * size**-0.5

    def run(turn: int) -> Tensor:
        latent = caches[turn][0][:, 0]
        scores = rows @ latent.transpose(1, 2)
        if mask is not None:
            scores.view(sequences, width, heads, -1).add_(mask.transpose(1, 2))
        mixed: Tensor = scores.softmax(-1) @ latent[..., : int(size * LATENT_SHARE)]
        return mixed

    return run
