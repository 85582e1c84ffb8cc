"""Kernel times from a profile, with stated stand-ins where it holds nothing.

What a profile does not hold is looked for in this order: another cache state, then another mask, width or format of
the same class, scaled by the ratio of rooflines (or, for verify attention, by the ratio that another machine's
profile measured between that width and one token) and flagged extrapolated; then the roofline. Verification is never
priced as more decode sequences: it reads each cache once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from specsim.arrays import Reals
from specsim.cost.attention_blocks import IN_WHOLE_BLOCKS, PROMPT_OF_BLOCKS, blocks_s
from specsim.cost.forward import SOURCES, Kernel, Price
from specsim.cost.machine_error import TABLE_ERROR, interrupted_share, machine_error
from specsim.cost.profile_surfaces import ProfileSurfaces
from specsim.cost.roofline import PRODUCTS, WIDEST_VERIFICATION, Roofline
from specsim.profiles.schema import Row
from specsim.profiles.store import Profile
from specsim.specs.formats import distance, format_of
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work
from specsim.surfaces.efficiency import EfficiencySurface
from specsim.surfaces.estimates import Estimates
from specsim.surfaces.regimes import regime
from specsim.surfaces.row_groups import FORMATLESS

EXTRAPOLATED = float(SOURCES.index("extrapolated"))
STAND_IN_ERROR = 0.2  # one standard deviation of a stand-in beside its own error; a judgement
HOST_PARTS = ("step", "drafts", "propose", "draft_pass", "ngram", "layer")
WIDEST_HEAD = 256  # values a head; latent attention's are wider
NARROWEST_PREFILL = 17  # query tokens; from there to WIDEST_VERIFICATION both kinds of rows serve


@dataclass(frozen=True, slots=True)
class _Found:
    """The surface that prices a kernel; of a stand-in also its format, its operation, and the width of attention."""

    surface: EfficiencySurface
    exact: bool
    dtype: str
    operation: str
    query_tokens: float | None = None
    in_whole_blocks: bool = False  # attention of several query tokens by a library as ``blocks_s`` says


class MeasuredPrices:
    """Prices kernels from a profile; ``dtype`` is that of activations.

    Prices are mean times: the profile's medians, stretched by the machine's ``interrupted_share``; or with ``medians``
    those themselves.

    ``widths`` is another machine's profile, whose measured ratio of verify to decode attention stands in for one
    that ``profile`` lacks.
    """

    def __init__(
        self, profile: Profile, hardware: Hardware, dtype: str, widths: Profile | None = None, *, medians: bool = False
    ) -> None:
        self.profile = profile
        self._gpu = profile.header.device == "cuda"
        self._table_error = TABLE_ERROR if profile.header.probe is None else {}
        self._stretch = 1.0 if medians else 1.0 + interrupted_share(profile)
        self._roofline = Roofline(hardware, dtype)
        self._surfaces = ProfileSurfaces(profile)
        self._widths = None if widths is None else ProfileSurfaces(widths)
        self._found: dict[tuple[object, ...], _Found | None] = {}
        self._host = {part: _host_table(profile.rows["host"], part) for part in HOST_PARTS}

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def machine_error(self) -> float:
        """As ``machine_error`` of the profile."""
        return machine_error(self.profile)

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """Seconds of one launch, from the profile as far as it goes."""
        roofline = self._roofline
        found = self._find(kernel, warm)
        if found is None:
            return roofline.price(kernel, warm=warm)
        bound, own_error = roofline.compute_bound(kernel), self._table_error.get(kernel.kind, 0.0)
        if found.exact:
            estimate = found.surface.seconds(kernel.shape)
            seconds: Reals = estimate.seconds
            rank: Reals = estimate.rank
            if kernel.kind == "attention" and kernel.shape[1] > WIDEST_VERIFICATION and self._gpu:
                seconds, rank = self._prompt(kernel, found, estimate)
            return Price(seconds * self._stretch, rank, np.hypot(estimate.error, own_error), bound)
        estimate, seconds = self._stand_in(kernel, found, warm)
        error = np.hypot(estimate.error, np.hypot(own_error, self._stand_in_error(kernel, found)))
        return Price(seconds * self._stretch, EXTRAPOLATED, error, bound)

    def _stand_in_error(self, kernel: Kernel, found: _Found) -> float:
        """Of another format of a product what that format's kernels differ by from card to card."""
        if kernel.kind in PRODUCTS and kernel.dtype != found.dtype:
            return format_of(kernel.dtype).reach.error
        return STAND_IN_ERROR

    def _stand_in(self, kernel: Kernel, found: _Found, warm: bool) -> tuple[Estimates, Reals]:
        """What was measured in a kernel's place, and the seconds that follow from it.

        A narrower or wider format takes as many times longer as on the roofline; so does attention of fewer query
        tokens than measured. More query tokens take what the roofline adds for them: a ratio would shrink as caches
        grow and the one token's time does not.
        """
        measured = self._measured_stand_in(kernel, found)
        estimate = found.surface.seconds(measured.shape)
        ratio = self._width_ratio(kernel, measured)
        if ratio is not None:
            return estimate, estimate.seconds * ratio
        if kernel.kind in PRODUCTS:
            asked, there = (self._roofline.ideal_s(_counted(one, one.dtype)) for one in (kernel, measured))
            floor_s = found.surface.floor_s  # launches and sorting of tokens, which no format shortens
            seconds = estimate.seconds * (floor_s + asked) / (floor_s + there)
            return estimate, np.maximum(seconds, self._roofline.widened_s(kernel))
        asked, there = (
            self._roofline.price(_counted(one, one.dtype), warm=warm).seconds for one in (kernel, measured)
        )
        if kernel.kind != "attention" or kernel.shape[1] <= measured.shape[1]:
            return estimate, estimate.seconds * asked / there
        here = self._roofline.price(_counted(replace(kernel, shape=measured.shape), kernel.dtype), warm=warm).seconds
        one_s = estimate.seconds * here / there
        whole, longer = self._in_whole_blocks(kernel, kernel.shape[2]), self._as_a_prompt(kernel, warm)
        seconds = one_s + np.maximum(0.0, asked - here) if whole is None else found.surface.floor_s + whole
        if longer is not None:
            seconds = np.minimum(seconds, longer)
        return estimate, np.maximum(one_s, seconds)

    def _in_whole_blocks(self, kernel: Kernel, keys: Reals) -> Reals | None:
        """Seconds of several query tokens over ``keys`` keys by a library that computes them in whole blocks; None
        where the profile's does not, or holds no prompts.
        """
        found = self._find(
            replace(kernel, shape=(1.0, *2 * (PROMPT_OF_BLOCKS,), *kernel.shape[3:]), operation=""), False
        )
        processors = self.profile.header.ceilings.processors
        if found is None or not found.exact or not found.in_whole_blocks or processors is None:
            return None
        prompt_s = found.surface.seconds((1.0, *2 * (PROMPT_OF_BLOCKS,), *kernel.shape[3:])).seconds
        return blocks_s(kernel.shape, keys, processors, prompt_s)

    def _prompt(self, kernel: Kernel, found: _Found, estimate: Estimates) -> tuple[Reals, Reals]:
        """Seconds of a prompt chunk, never less than of one token over as many keys, and their rank.

        Where a library computes whole blocks, its own tokens are as measured and the keys before them come on top.
        """
        sequences, queries, keys, *layout = kernel.shape
        seconds: Reals = estimate.seconds
        rank: Reals = estimate.rank
        before = self._in_whole_blocks(kernel, np.maximum(0.0, keys - queries))
        if before is not None and np.any(before):
            seconds = found.surface.seconds((sequences, queries, queries, *layout)).seconds + before
            rank = EXTRAPOLATED
        one = replace(kernel, shape=(sequences, 1.0, keys, *layout), operation="")
        decode = self._find(one, False)
        if decode is None or not decode.exact or kernel.shape[5] > WIDEST_HEAD:
            return seconds, rank
        return np.maximum(seconds, decode.surface.seconds(one.shape).seconds), rank

    def _as_a_prompt(self, kernel: Kernel, warm: bool) -> Reals | None:
        """Seconds of the narrowest prompt chunk over as many keys, which verifying fewer tokens never takes longer
        than; None where prompts were not measured, and of latent attention, whose prompts run another kernel.
        """
        if kernel.shape[5] > WIDEST_HEAD:
            return None
        more = WIDEST_VERIFICATION + 1.0 - kernel.shape[1]
        shape = (kernel.shape[0], WIDEST_VERIFICATION + 1.0, kernel.shape[2] + more, *kernel.shape[3:])
        prompt = replace(kernel, shape=shape, operation="")
        found = self._find(prompt, warm)
        if found is None or not found.exact:
            return None
        return self._prompt(prompt, found, found.surface.seconds(shape))[0]

    def floor_s(self, kernel: Kernel, *, warm: bool) -> float | None:
        """The shortest time of the kernel's class as measured; None where the profile does not hold the class."""
        found = self._find(kernel, warm)
        return None if found is None else found.surface.floor_s

    def _find(self, kernel: Kernel, warm: bool) -> _Found | None:
        queries = kernel.shape[1] if kernel.kind == "attention" else None
        key = (kernel.kind, kernel.operation, kernel.dtype, warm, queries)
        if key not in self._found:
            self._found[key] = self._search(kernel, warm)
        return self._found[key]

    def _search(self, kernel: Kernel, warm: bool) -> _Found | None:
        regimes = _regimes(kernel)
        caches = ("warm", "cold") if warm else ("cold", "warm")
        choices = product(regimes, self._formats(kernel), _operations(kernel), caches)
        for which, dtype, operation, cache in choices:
            surface = self._surfaces.get((kernel.kind, operation, dtype, cache, which))
            if surface is not None:
                exact = which == regimes[0] and operation == kernel.operation and dtype in ("", kernel.dtype)
                whole = which == "prefill" and self._surfaces.library(kernel.kind) in IN_WHOLE_BLOCKS
                return _Found(surface, exact, dtype, operation, _nearest_width(kernel, which), whole)
        return None

    def _formats(self, kernel: Kernel) -> list[str]:
        """The kernel's own format, then others of its class, the most like it first."""
        if kernel.kind in FORMATLESS:
            return [""]
        others = self._surfaces.formats(kernel.kind) - {kernel.dtype}
        return [kernel.dtype, *sorted(others, key=lambda name: (distance(kernel.dtype, name), name))]

    def _measured_stand_in(self, kernel: Kernel, found: _Found) -> Kernel:
        """The kernel that ``found`` measured: another format, another mask, the nearest measured width."""
        shape = kernel.shape
        if found.query_tokens is not None:
            shape = (shape[0], found.query_tokens, *shape[2:])
        return _counted(replace(kernel, shape=shape, operation=found.operation), found.dtype)

    def _width_ratio(self, kernel: Kernel, measured: Kernel) -> Reals | None:
        """How much longer attention takes at its width than at the measured one, by the other machine's profile."""
        if self._widths is None or kernel.kind != "attention" or measured.shape[1] != 1.0:
            return None
        wide = self._widths.get(("attention", "", measured.dtype, "cold", "verify"))
        if wide is None or not 1 < float(kernel.shape[1]) <= WIDEST_VERIFICATION:
            return None
        return wide.seconds(kernel.shape).seconds / wide.seconds(measured.shape).seconds

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        """Linear in sequences between measured batch sizes, constant beyond them."""
        table = self._host[part]
        if table is None:
            return None
        seconds = np.interp(sequences, *table) * self._stretch
        return seconds if isinstance(seconds, np.ndarray) else float(seconds)


def _counted(kernel: Kernel, dtype: str) -> Kernel:
    """A kernel in this format, its bytes and FLOPs counted from its shape as surfaces count them."""
    if kernel.kind not in ("gemm", "attention", "moe"):
        return kernel
    moved, flops = work(kernel.kind, kernel.shape, dtype)
    return replace(kernel, dtype=dtype, bytes=moved, flops=flops)


def _regimes(kernel: Kernel) -> tuple[str, ...]:
    """Where attention of this width was measured, then the nearest other widths."""
    if kernel.kind != "attention":
        return ("",)
    nearest = {"decode": ("verify", "prefill"), "verify": ("decode", "prefill"), "prefill": ("verify", "decode")}
    own = regime(float(kernel.shape[1]))
    return (own, *nearest[own])


def _nearest_width(kernel: Kernel, which: str) -> float | None:
    if kernel.kind != "attention":
        return None
    queries = float(kernel.shape[1])
    if which == "decode":
        return 1.0
    return min(queries, WIDEST_VERIFICATION) if which == "verify" else max(queries, NARROWEST_PREFILL)


def _operations(kernel: Kernel) -> tuple[str, ...]:
    """The kernel's own operation, then what is closest to it."""
    nearest = {
        "tree": "",
        "softmax": "greedy",
        "sample": "greedy",
        "rejection": "greedy",
        "all_gather": "all_reduce",
        "add_norm": "add",
    }
    other = nearest.get(kernel.operation)
    return (kernel.operation,) if other is None else (kernel.operation, other)


def _host_table(rows: tuple[Row, ...], part: str) -> tuple[list[float], list[float]] | None:
    chosen = sorted((row.shape[0], row.median_s) for row in rows if row.operation == part)
    return ([s for s, _ in chosen], [t for _, t in chosen]) if chosen else None
