"""One sweep over a device: shapes in, a profile folder out, resumable at any point.

First a coarse grid in random order, then midpoints where interpolation is worst, until the minutes are spent. Rows
are appended as they are measured. A second run with the same folder skips what its tables hold, so nothing is
measured twice; a folder begun on another device or dtype is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from specsim.errors import InvalidInput
from specsim.profiles.schema import Probe, ProfileHeader, Row
from specsim.profiling import in_pass
from specsim.profiling.anchors import Anchors, Looks
from specsim.profiling.budget import Budget
from specsim.profiling.collectives import collective_rows
from specsim.profiling.header import header_of, heldout_errors
from specsim.profiling.host import host_rows
from specsim.profiling.kernels import Kernels
from specsim.profiling.machine import DTYPES, Machine, inspect
from specsim.profiling.passes import CHECKED, captures_of, pass_rows
from specsim.profiling.plan import CPU, CUDA, Grid, Shape, by_weights, shapes, size, thinned, worthwhile
from specsim.profiling.probe import MachineProbe
from specsim.profiling.refine import midpoints
from specsim.profiling.table import Table
from specsim.profiling.timer import Capture, Clock, Replay, clock_and_capture, summary

Progress = Callable[[float, float, str], None]  # seconds spent, seconds in all, what is being measured
SEED = 0
LEAST_MINUTES = 1.0
FINISHING_SHARE = 0.08  # of the time, kept for what comes after the last shape
PROBES = 20  # in one sweep
LOOK_EVERY_S = {"cpu": 1.0, "cuda": 5.0}  # at the anchors, at most: a hundredth of a sweep
# Groups of shapes measured together, and visits to each. A shared machine's memory is 1.5 times as fast in one second
# as in the next: samples seconds apart see both. A GPU's own memory is not shared, and its graphs hold memory.
TOGETHER, VISITS = {"cpu": 6, "cuda": 1}, {"cpu": 4, "cuda": 1}
GOOD_ENOUGH = 0.02  # expected interpolation error below which no more shapes are added: less is noise
# Axes as interpolation descends them, as columns of the class, and the step of new values (0: none are added).
REFINED = {
    "gemm": ((2, 1, 0), (64, 64, 1)),
    "attention": ((5, 3, 4, 1, 0, 2), (0, 0, 0, 1, 1, 16)),
}


def run_sweep(
    device: str, dtype: str, folder: Path | None = None, *, gpu: str | None = None, quick: bool = False,
    minutes: float = 8.0, progress: Progress = lambda spent, total, what: None,
    warn: Callable[[str], None] = lambda line: None, grid: Grid | None = None,
) -> Path:  # fmt: skip
    """Measure this machine into ``folder`` (default ``profiles/<machine>``) for at most ``minutes`` and return it.

    ``gpu`` names the hardware preset it stands for; None: the machine's name. ``quick`` stops after a thinner coarse
    grid. Raises InvalidInput for an unknown dtype, too few minutes or a folder that holds another machine's profile,
    NoAnswer without the device or where the folder cannot be written.
    """
    if dtype not in DTYPES:
        raise InvalidInput(f"--dtype {dtype!r}: the reference kernels run in {', '.join(DTYPES)}; choose one")
    if not minutes >= LEAST_MINUTES:
        raise InvalidInput(f"--minutes {minutes:g}: a coarse grid needs at least {LEAST_MINUTES:g}; give more")
    budget = Budget(60.0 * minutes, FINISHING_SHARE, progress)
    device_of = clock_and_capture(device)
    machine = inspect(device)
    probe = MachineProbe(device, dtype, *device_of)
    folder = Path("profiles") / machine.slug() if folder is None else folder
    grid = grid or (CPU if device == "cpu" else CUDA)
    grid = thinned(grid) if quick else grid
    table = Table(folder)
    table.write_header(header_of(machine, dtype, folder, gpu or machine.slug(), device_of, probe, grid))
    sweep = _Sweep(machine, dtype, grid, table, budget, device_of, probe, warn)
    sweep.measure_coarse_grid()
    if not quick:
        sweep.refine()
    sweep.finish()
    return folder


@dataclass(frozen=True, slots=True)
class _Member:
    """A shape of a group being measured."""

    shape: Shape
    kernel: str
    replay: Replay
    samples: list[float]


def _visit(members: list[_Member], share: float) -> list[list[float]]:
    return [member.replay.visit(share) for member in members]


class _Sweep:
    """What all parts of one sweep share."""

    def __init__(
        self, machine: Machine, dtype: str, grid: Grid, table: Table, budget: Budget, device: tuple[Clock, Capture],
        probe: MachineProbe, warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._machine, self._dtype, self._grid, self._table, self._budget = machine, dtype, grid, table, budget
        self._clock, self._capture = device
        self._probe = probe
        self._kernels = Kernels(machine, dtype, *device)
        self._warn = warn
        self._failed: set[Shape] = set()
        self._probed_s = 0.0
        self._looks = Looks(Anchors(machine.device, dtype, machine), LOOK_EVERY_S[machine.device])

    def measure_coarse_grid(self) -> None:
        """Every part in a seeded random order, so that none is favoured when the minutes run out, and no drift."""
        found = list(shapes(self._grid, self._dtype, self._machine.last_level_cache_bytes))
        parts: list[Callable[[], bool]] = [partial(self._measure, groups) for groups in self._batches(found)]
        parts.extend(partial(self._measure_in_passes, hidden) for hidden in self._grid.pass_hidden_sizes)
        parts.append(self._measure_host)
        if self._machine.device == "cuda":
            parts.append(self._measure_collectives)
        if self._grid.whole_passes:
            parts.extend(
                partial(self._measure_whole_passes, index) for index in range(len(CHECKED[self._machine.device]))
            )
        order = np.random.default_rng(SEED).permutation(len(parts)).tolist()
        incomplete = sum(not parts[index]() for index in order)
        if incomplete:
            self._note(
                f"the coarse grid is incomplete: {incomplete} of {len(parts)} parts had no time left; run the same "
                "command again to go on"
            )

    def refine(self) -> None:
        """Midpoints where interpolation is worst, until the time is spent; each surface gets an equal part of it."""
        spent_s = {(kind, cache): 0.0 for kind in REFINED for cache in ("cold", "warm")}
        while spent_s and not self._budget.over:
            start_s = self._budget.spent_s()
            surface = min(spent_s, key=lambda surface: spent_s[surface])
            batches = self._batches(self._worst_shapes(*surface))
            if batches:
                self._measure(batches[0])
                spent_s[surface] += self._budget.spent_s() - start_s
            else:
                del spent_s[surface]

    def finish(self) -> None:
        """Put into the header what is known only at the end."""
        header = self._probed(during=False)
        self._table.write_header(header)
        self._table.write_header(header.model_copy(update={"heldout_error": heldout_errors(self._table)}))

    def _note(self, line: str, where: str = "") -> None:
        """Warn, and keep the line in the header, once for all the shapes it holds ``where``."""
        self._warn(f"{line} {where}".rstrip())
        header = self._table.header
        if line not in header.notes:
            self._table.write_header(header.model_copy(update={"notes": [*header.notes, line]}))

    def _probe_when_due(self) -> None:
        if self._budget.spent_s() - self._probed_s < self._budget.total_s / PROBES:
            return
        self._probed_s = self._budget.spent_s()
        self._table.write_header(self._probed(during=True))

    def _probed(self, *, during: bool) -> ProfileHeader:
        """The header with the probe taken once more."""
        header = self._table.header
        seconds = self._probe.seconds()
        probe = header.probe or Probe(before_s=seconds)
        update = {"during_s": [*probe.during_s, seconds]} if during else {"after_s": seconds}
        interrupted = [*probe.interrupted, self._probe.interrupted()]
        always = {"interrupted": interrupted, "anchors": self._looks.typical(probe.anchors)}
        return header.model_copy(update={"probe": probe.model_copy(update=update | always)})

    # -- single kernels ---------------------------------------------------------------------------------------------

    def _batches(self, found: list[Shape]) -> list[list[list[Shape]]]:
        groups, count = by_weights(found, SEED), TOGETHER[self._machine.device]
        return [groups[i : i + count] for i in range(0, len(groups), count)]

    def _measure(self, groups: list[list[Shape]]) -> bool:
        """Time groups of shapes that share weights, visiting one after another; whether there was time for all."""
        prepared: list[list[_Member]] = []
        try:
            for group in groups:
                missing = [shape for shape in group if not self._is_known(shape)]
                prepared.append([member for shape in missing if (member := self._prepare(shape)) is not None])
            visits = VISITS[self._machine.device]
            for number, members in product(range(visits), prepared):
                if number and self._budget.over:
                    break
                if members:  # caches full of other data: the probe after every visit leaves them so anyway
                    self._looks.look_when_due()
                take = partial(_visit, members, 1.0 / visits)
                for member, samples in zip(members, self._probe.steadily(take), strict=True):
                    member.samples.extend(samples)
                self._probe_when_due()
        finally:  # an interruption loses nothing either
            for member in (member for members in prepared for member in members if member.samples):
                self._table.add_timing(member.shape, member.kernel, self._capture.mode, summary(member.samples))
        return all(self._is_known(shape) for group in groups for shape in group)

    def _is_known(self, shape: Shape) -> bool:
        key = (*shape.shape, shape.operation, shape.dtype, shape.cache, self._capture.mode)
        return self._table.holds(shape.kind, key) or shape in self._failed

    def _prepare(self, shape: Shape) -> _Member | None:
        """A shape ready to visit; None where there is no time or, with a warning, no such kernel."""
        if self._budget.over:
            return None
        self._budget.report(shape.kind)
        try:
            prepared = self._kernels.prepare(shape)
            replay = Replay(
                prepared.launch, buffers=prepared.buffers, clock=self._clock, capture=self._capture,
                before=prepared.before,
            )  # fmt: skip
            return _Member(shape, prepared.kernel, replay, [])
        except (RuntimeError, NotImplementedError) as error:  # running out of memory is a RuntimeError too
            self._failed.add(shape)
            self._kernels.release()
            reason = str(error).strip().split("\n")[0][:120]
            what = " ".join(word for word in (shape.kind, shape.operation, shape.dtype) if word)
            self._note(f"{what} is not measured everywhere: {reason}", f"at {'x'.join(f'{v:g}' for v in shape.shape)}")
            return None

    def _worst_shapes(self, kind: str, cache: str) -> list[Shape]:
        """The shapes of a surface's worst midpoints, those at least half as bad as the worst; empty if it is good."""
        columns, steps = REFINED[kind]
        allowed = partial(self._allowed, kind, cache, columns)
        found = midpoints(self._log_efficiencies(kind, cache, columns), steps, allowed)[
            : TOGETHER[self._machine.device]
        ]
        enough = max(GOOD_ENOUGH, found[0].error / 2) if found else 0.0
        points = {point: None for midpoint in found if midpoint.error >= enough for point in midpoint.points}
        return [self._shape(kind, cache, columns, point) for point in points]

    def _log_efficiencies(self, kind: str, cache: str, columns: tuple[int, ...]) -> dict[tuple[float, ...], float]:
        ceilings = self._table.header.ceilings
        rate = {str(name): value for name, value in ceilings.flops_per_s.items()}[self._dtype]
        chosen = (self._dtype, cache, "")
        rows = [row for row in self._table.rows(kind) if (row.dtype, row.cache, row.operation) == chosen]
        floor_s = min((row.median_s for row in rows), default=0.0)
        values = {}
        for row in rows:
            moved, flops = size(Shape(kind, "", row.shape, cache, self._dtype))
            ideal_s = floor_s + math.hypot(moved / ceilings.copy_bytes_per_s, flops / rate)
            values[tuple(row.shape[column] for column in columns)] = math.log(ideal_s / row.median_s)
        return values

    def _shape(self, kind: str, cache: str, columns: tuple[int, ...], point: tuple[float, ...]) -> Shape:
        return Shape(kind, "", tuple(point[columns.index(i)] for i in range(len(columns))), cache, self._dtype)

    def _allowed(self, kind: str, cache: str, columns: tuple[int, ...], point: tuple[float, ...]) -> bool:
        shape = self._shape(kind, cache, columns, point)
        return shape not in self._failed and worthwhile(shape, self._grid, self._machine.last_level_cache_bytes)

    # -- whole parts ------------------------------------------------------------------------------------------------

    def _measure_in_passes(self, hidden: int) -> bool:
        """Elementwise kernels inside passes of a generic model; what is already in the table is left out."""
        tokens, machine = self._grid.pass_tokens, self._machine
        keys = [
            (float(count), float(width), operation, self._dtype, "cold", "eager")
            for count in tokens
            for operation, width in in_pass.widths(hidden).items()
        ]
        if all(self._table.holds("elementwise", key) for key in keys):
            return True
        return self._add_all("elementwise", lambda: in_pass.times(machine, self._dtype, hidden, tokens))

    def _measure_host(self) -> bool:
        if self._table.rows("host"):
            return True
        device = self._machine.device
        return self._add_all("host", lambda: host_rows(self._grid.host_batches, device, self._dtype))

    def _measure_collectives(self) -> bool:
        return bool(self._table.rows("collective")) or self._add_all("collective", collective_rows)

    def _measure_whole_passes(self, index: int) -> bool:
        device = self._machine.device
        spec, cells, modes = CHECKED[device][index], self._grid.whole_passes, captures_of(self._capture)
        if sum(row.operation == spec.name for row in self._table.rows("pass")) == len(cells) * len(modes):
            return True
        return self._add_all(
            "pass", lambda: pass_rows(spec, cells, device, self._dtype, self._clock, modes, self._probe)
        )

    def _add_all(self, kind: str, rows: Callable[[], Iterable[Row]]) -> bool:
        """Add what a part yields, row by row; whether there was time for it."""
        if self._budget.over:
            return False
        self._budget.report(kind)
        self._probe_when_due()
        self._looks.look_when_due()
        try:
            for row in rows():
                if not self._table.holds(kind, row.key()):
                    self._table.add(kind, row)
        except (RuntimeError, NotImplementedError) as error:
            self._kernels.release()
            self._note(f"{kind} was cut short: {str(error).strip().split(chr(10))[0][:120]}")
        return True
