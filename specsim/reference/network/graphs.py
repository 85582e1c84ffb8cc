"""Passes captured once and replayed, as serving engines replay decode and verify passes as CUDA graphs.

A graph runs the same kernels on the same addresses every time, so a captured pass has one shape, its **frame**, and
reads everything that changes from buffers on the device. Row i of a frame is slot i of the cache: ``spans`` say where
each slot's tokens start and how many there are. A slot that takes no part, or has fewer tokens than the frame is
wide, still runs them; their keys and values go to the scratch slot and their logits nowhere. Keys are read up to the
end of a bucket, and masked by those starts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.network.capture import CpuPassCapture, CudaPassCapture, Outputs, PassCapture
from specsim.reference.network.kernels import attention_mask, branch_mask
from specsim.reference.network.passes import AttentionCall, Branches, Compute, PassPlan, TokenGroup
from specsim.specs.engine import pad_to_graph
from specsim.specs.model import ModelSpec

KEY_STEP = 64  # buckets of keys are at least this wide, above 512 keys an eighth of the power of two below
MOST_PADDING = 0.5  # of a pass's tokens; beyond that, running the shorter rows at the widest one's width is no saving


class CapturedLayers(Protocol):
    """Layers whose passes are captured, as ``layers.Layers`` has them."""

    spec: ModelSpec
    dtype: torch.dtype
    device: torch.device
    max_sequences: int
    max_length: int
    graphs: Graphs | None

    def turns(self, positions: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """The shape of a captured pass."""

    size: int  # tokens
    width: int  # tokens of a slot
    slots: int
    rows: int  # logits of a slot
    keys: int
    tree: tuple[int, int] | None  # places of the tree before the first token, and in all
    carried: int | None  # values that each token brings along


def bucket(keys: int) -> int:
    """How many keys a captured pass reads that must see so many. 65 gives 128, 1025 gives 1152."""
    step = max(KEY_STEP, 1 << max(0, keys.bit_length() - 4))
    return -(-keys // step) * step


class _Buffers:
    """What a captured pass reads, and its plan in terms of that."""

    def __init__(self, stack: CapturedLayers, frame: Frame) -> None:
        self._stack, self._frame = stack, frame
        device = stack.device
        self.tokens = torch.zeros(frame.size, dtype=torch.int64, device=device)
        self.spans = torch.zeros(2, frame.slots, dtype=torch.int64, device=device)  # starts, widths
        if frame.tree is not None:
            self.ahead = torch.zeros(frame.width, dtype=torch.int64, device=device)
            self.seen = torch.ones(frame.width, frame.tree[1], dtype=torch.bool, device=device)
        if frame.carried is not None:
            self.carried = torch.zeros(frame.size, frame.carried, dtype=stack.dtype, device=device)

    def load(self, groups: Sequence[TokenGroup]) -> None:
        """Take a pass's values. What slots that take no part had before stays: it goes nowhere."""
        frame = self._frame
        spans = np.zeros((2, frame.slots), dtype=np.int64)
        spans[0] = frame.tree[0] if frame.tree else 0
        for group in groups:
            spans[0, group.slots], spans[1, group.slots] = group.starts, group.width
            self._put(self.tokens, group, group.tokens)
            if group.carried is not None:
                self._put(self.carried, group, group.carried)
            if group.branches is not None:
                self.ahead.copy_(torch.from_numpy(group.branches.ahead))
                self.seen.copy_(torch.from_numpy(group.branches.seen))
        self.spans.copy_(torch.from_numpy(spans))

    def _put(self, buffer: Tensor, group: TokenGroup, values: Tensor) -> None:
        frame = self._frame
        grid = buffer[: frame.slots * frame.width].unflatten(0, (frame.slots, frame.width))
        if in_order(group.slots):
            grid[: len(group.slots), : group.width] = values
        else:
            grid[torch.from_numpy(group.slots).to(buffer.device), : group.width] = values

    def plan(self) -> PassPlan:
        """Computed on the device, from the buffers alone."""
        frame, stack = self._frame, self._stack
        device, kv_heads = stack.device, stack.spec.num_kv_heads
        slots, ahead = (torch.arange(n, device=device) for n in (frame.slots, frame.width))
        starts, widths = self.spans
        idle = ahead >= widths[:, None]
        places = starts[:, None] + ahead
        slot_of = slots[:, None].expand_as(places).masked_fill(idle, stack.max_sequences)
        place_of = places.masked_fill(idle, 0)
        fold = stack.spec.num_heads // kv_heads
        if frame.tree is None:
            positions = places.clamp(max=stack.max_length - 1)
            mask = attention_mask(positions, frame.keys, fold, stack.dtype)
        else:
            roots = starts - frame.tree[0]
            positions = (roots[:, None] + self.ahead).clamp(max=stack.max_length - 1)
            mask = branch_mask(self.seen, roots, frame.keys, fold, stack.dtype)
        spare = frame.size - places.numel()
        scratch = stack.max_sequences * stack.max_length
        rows = _lengthened((slot_of * kv_heads * stack.max_length + place_of).flatten(), spare, scratch * kv_heads)
        states = _lengthened((slot_of * stack.max_length + place_of).flatten(), spare, scratch)
        cos, sin = stack.turns(_lengthened(positions.flatten(), spare, 0))
        wanted = None
        if frame.rows < frame.width:
            first = slots * frame.width + (widths - frame.rows).clamp(min=0)
            wanted = (first[:, None] + torch.arange(frame.rows, device=device)).flatten()
        run = AttentionCall(0, places.numel(), frame.slots, slice(0, frame.slots), frame.keys, mask)
        return PassPlan(
            tokens=self.tokens,
            cos=cos,
            sin=sin,
            rows=rows[:, None] + stack.max_length * torch.arange(kv_heads, device=device),
            runs=[run],
            wanted=wanted,
            states=states,
            carried=None if frame.carried is None else self.carried,
            spare=spare,
        )


@dataclass(slots=True)
class _Held:
    buffers: _Buffers
    outputs: Outputs
    replay: Callable[[], None]


class Graphs:
    """The captured passes of one stack of layers, each made at its first use.

    ``sizes``: token counts to pad to, ascending; larger passes run eagerly, as do those with more than ``widest``
    tokens of one sequence, which are prompts, and those whose sequences differ in their trees. What ``run`` returns
    holds until the next pass.
    """

    def __init__(self, stack: CapturedLayers, sizes: Sequence[int], widest: int, capture: PassCapture) -> None:
        self.sizes, self.widest, self.capture = tuple(sizes), widest, capture
        self._stack = stack
        self._held: dict[Hashable, _Held] = {}
        self._results: dict[Hashable, Tensor] = {}

    def alike(self, stack: CapturedLayers) -> Graphs:
        """The same for another stack, by the same capture."""
        return Graphs(stack, self.sizes, self.widest, self.capture)

    def clear(self) -> None:
        """Forget what was captured; for a stack that from now on computes something else."""
        self._held.clear()

    @torch.inference_mode()
    def run(self, name: Hashable, groups: Sequence[TokenGroup], compute: Compute) -> Outputs | None:
        """What ``compute`` makes of the groups' plan, replayed; None for a pass that no graph takes.

        ``name`` says which computation it is. Each output has one row for each row of logits that is wanted.
        """
        frame = self.frame(groups)
        if frame is None:
            return None
        held = self._held.get((name, frame))
        if held is None:
            held = self._capture(frame, groups, compute)
            self._held[name, frame] = held
        held.buffers.load(groups)
        held.replay()
        return tuple(_of_groups(output, frame.rows, groups) for output in held.outputs)

    def frame(self, groups: Sequence[TokenGroup]) -> Frame | None:
        """The frame that takes a pass; None where it runs eagerly."""
        width = max(group.width for group in groups)
        slots = max(int(group.slots.max(initial=-1)) for group in groups) + 1
        tokens = sum(group.tokens.numel() for group in groups)
        size, captured = pad_to_graph(slots * width, self.sizes)
        if not captured or width > self.widest or slots * width > (1 + MOST_PADDING) * tokens:
            return None
        if len(groups) > 1:
            together = np.concatenate([group.slots for group in groups])
            special = any(group.branches is not None or group.carried is not None for group in groups)
            if special or len(np.unique(together)) < len(together):
                return None  # a tree each, or a slot in two groups: a frame has one row a slot
        longest = max(int(group.starts.max()) + group.width for group in groups)
        return Frame(
            size=int(size),
            width=width,
            slots=min(int(size) // width, self._stack.max_sequences),
            rows=max(group.logit_rows for group in groups),
            keys=min(bucket(longest), self._stack.max_length),
            tree=_tree(groups[0].branches),
            carried=None if groups[0].carried is None else groups[0].carried.shape[-1],
        )

    def _capture(self, frame: Frame, groups: Sequence[TokenGroup], compute: Compute) -> _Held:
        buffers = _Buffers(self._stack, frame)
        buffers.load(groups)

        def body() -> Outputs:
            return tuple(self._kept(place, rows) for place, rows in enumerate(compute(buffers.plan())))

        outputs, replay = self.capture.capture(body)
        return _Held(buffers, outputs, replay)

    def _kept(self, place: int, rows: Tensor) -> Tensor:
        """Outputs in memory that all graphs write: each graph's own would hold its logits for good."""
        key = (place, rows.shape[1:], rows.dtype)
        if key not in self._results:
            self._results[key] = rows.new_empty((self.sizes[-1], *rows.shape[1:]))
        return self._results[key][: len(rows)].copy_(rows)


def capture_passes(stacks: Sequence[CapturedLayers], sizes: Sequence[int], widest: int) -> None:
    """From now on these stacks capture their passes and replay them; none without ``sizes``."""
    if sizes and stacks:
        capture: PassCapture = CudaPassCapture() if stacks[0].device.type == "cuda" else CpuPassCapture()
        for stack in stacks:
            stack.graphs = Graphs(stack, sizes, widest, capture)


def in_order(slots: Integers) -> bool:
    """Whether they are the first ones, ascending."""
    return bool((slots == np.arange(len(slots))).all())


def _tree(branches: Branches | None) -> tuple[int, int] | None:
    return None if branches is None else (branches.before, branches.seen.shape[1])


def _lengthened(values: Tensor, by: int, value: int) -> Tensor:
    return torch.cat((values, values.new_full((by,), value))) if by else values


def _of_groups(output: Tensor, rows: int, groups: Sequence[TokenGroup]) -> Tensor:
    """The rows that the groups want, in their order, of ``rows`` rows a slot."""
    first = groups[0]
    if len(groups) == 1 and first.logit_rows == rows and in_order(first.slots):
        return output[: len(first.slots) * rows]
    pieces = []
    for group in groups:
        begin = group.width - group.logit_rows - max(group.width - rows, 0)
        pieces.append((group.slots[:, None] * rows + begin + np.arange(group.logit_rows)).ravel())
    return output[torch.from_numpy(np.concatenate(pieces)).to(output.device)]
