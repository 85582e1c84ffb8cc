"""One sweep under way: levels of a grid, refinement and coming back, over one table, one clock and one budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from specsim.profiles.schema import Probe, ProfileHeader, Row
from specsim.profiling.device.anchors import Anchors, Looks, ratios, typical
from specsim.profiling.device.ceilings import copy_ceiling
from specsim.profiling.device.machine import Machine
from specsim.profiling.device.probe import MachineProbe
from specsim.profiling.device.timer import Capture, Clock, Replay
from specsim.profiling.kernels.launches import Kernels
from specsim.profiling.sweep.budget import TimeBudget
from specsim.profiling.sweep.header import heldout_errors
from specsim.profiling.sweep.parts import Rows, parts_of
from specsim.profiling.sweep.plan import Grid, Shape, by_weights, levels, shapes, worthwhile
from specsim.profiling.sweep.refine import REFINED, worst_shapes
from specsim.profiling.sweep.table import ProfileTable
from specsim.profiling.sweep.visits import MOST_CORRECTION, Visits
from specsim.reference.network.cpu import this_cpu

SEED = 0
INCOMPLETE = "the grid is incomplete"
PROBES, LEAST_BETWEEN_PROBES_S = 20, 10.0  # in one sweep
# A CPU's memory is shared with neighbours, so its shapes are come back to; a GPU's own is not. Share of the time for
# first visits, and share of a row's samples that one visit takes.
FIRST_VISITS = {"cpu": 0.4, "cuda": 1.0}
VISIT = {"cpu": 0.25, "cuda": 1.0}
LOOK_EVERY_S = 5.0  # at the anchors, where they are not looked at around every visit


@dataclass(frozen=True, slots=True)
class _Task:
    """A piece of a level that is measured in one go; ``measure`` tells whether there was time for all of it."""

    kind: str
    measure: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Member:
    """A shape of a group being visited."""

    shape: Shape
    kernel: str
    replay: Replay


class Sweep:
    """What all parts of one sweep share."""

    def __init__(
        self,
        machine: Machine,
        dtype: str,
        grid: Grid,
        table: ProfileTable,
        budget: TimeBudget,
        device: tuple[Clock, Capture],
        probe: MachineProbe,
        warn: Callable[[str], None],
    ) -> None:
        self._machine, self._dtype, self._grid, self._table, self._budget = machine, dtype, grid, table, budget
        self._clock, self._capture = device
        self._probe = probe
        self._kernels = Kernels(machine, dtype, *device)
        self._warn = warn
        self._failed: set[Shape] = set()
        self._probed_s = 0.0
        self._looks = Looks(Anchors(machine.device, dtype, machine), LOOK_EVERY_S)
        known = table.header.probe
        self._known_anchors = {} if known is None else known.anchors  # what an earlier run's rows refer to
        rates = {str(name): rate for name, rate in table.header.ceilings.flops_per_s.items()}
        self._rate = rates[dtype]
        self._visits = Visits(table.header.ceilings, self._rate, self._capture.mode)
        self._groups: list[list[Shape]] = []  # visited so far
        self._unsettled: list[Shape] = []

    def note_emulation(self) -> None:
        """Say so where the CPU has no instructions for the sweep's dtype."""
        told = this_cpu().emulation(self._dtype) if self._machine.device == "cpu" else None
        if told is not None:
            self._note(told)

    def measure_grid(self) -> None:
        """Level by level, something of every class first, then in a seeded random order: drift aligns with nothing."""
        grids = levels(self._grid)
        for number, grid in enumerate(grids, start=1):
            tasks = self._tasks(grid)
            order = [tasks[index] for index in np.random.default_rng(SEED).permutation(len(tasks))]
            first = list({task.kind: task for task in reversed(order)}.values())
            incomplete = sum(not task.measure() for task in [*first, *(task for task in order if task not in first)])
            if incomplete:
                self._note(
                    f"{INCOMPLETE}: {incomplete} of {len(tasks)} parts of level {number} of {len(grids)} (coarse to "
                    "fine) had no time left; it can be used, and the same command goes on"
                )
                return

    def _tasks(self, grid: Grid) -> list[_Task]:
        found = list(shapes(grid, self._dtype, self._machine.last_level_cache_bytes))
        tasks = [_Task(group[0].kind, partial(self._measure, group)) for group in by_weights(found, SEED)]
        timers = self._clock, self._capture
        for kind, missing in parts_of(
            grid, self._table, self._machine, self._dtype, self._budget.total_s, timers, self._probe
        ):
            tasks.append(_Task(kind, partial(self._measure_part, kind, missing)))
        return tasks

    def refine(self) -> None:
        """Midpoints where interpolation is worst, each surface in turn, until the time for first visits is spent."""
        self.settle()
        spent_s = {(kind, cache): 0.0 for kind in REFINED for cache in ("cold", "warm")}
        until_s = FIRST_VISITS[self._machine.device] * self._budget.total_s
        while spent_s and not self._budget.over and self._budget.spent_s() < until_s:
            start_s = self._budget.spent_s()
            surface = min(spent_s, key=lambda surface: spent_s[surface])
            groups = by_weights(self._worst_shapes(*surface), SEED)
            for group in groups:
                self._measure(group)
            if groups:
                spent_s[surface] += self._budget.spent_s() - start_s
            else:
                del spent_s[surface]

    def revisit(self, rounds: int) -> None:
        """Come back to every shape of this run, each round in an order of its own, until the time is spent."""
        for number in range(rounds):
            for index in np.random.default_rng(SEED + number + 1).permutation(len(self._groups)).tolist():
                if self._budget.over:
                    return
                self._visit(self._groups[index])

    def settle(self) -> None:
        """Rewrite the rows of all shapes over all their visits, by what the anchors typically took."""
        self._settle(shape for group in self._groups for shape in group)

    def finish(self) -> None:
        """Put into the header what is known only at the end; a shared memory's ceiling is the faster of two copies."""
        self._note_slowdown()
        header = self._probed(during=False)
        if self._machine.device == "cpu":
            again = copy_ceiling("cpu", self._clock, self._capture)
            fastest = max(header.ceilings.copy_bytes_per_s, again)
            ceilings = header.ceilings.model_copy(update={"copy_bytes_per_s": fastest})
            header = header.model_copy(update={"ceilings": ceilings})
        self._table.write_header(header)
        self._table.write_header(header.model_copy(update={"heldout_error": heldout_errors(self._table)}))

    def _note_slowdown(self) -> None:
        """Say so where the anchors took much longer than in the run that this one goes on with."""
        now = ratios(self._looks.typical(), self._known_anchors)
        slowest = max(now.values(), default=1.0)
        if slowest > MOST_CORRECTION:
            self._note(
                f"the machine was {slowest:.1f} times slower than when this folder was begun, so these rows are too "
                "long; measure on a quieter machine into another folder"
            )

    def _note(self, line: str, where: str = "") -> None:
        """Warn, and keep the line in the header, once for all the shapes it holds ``where``."""
        self._warn(f"{line} {where}".rstrip())
        self._table.note(line)

    def _probe_when_due(self) -> None:
        due_s = max(self._budget.total_s / PROBES, LEAST_BETWEEN_PROBES_S)
        if self._budget.spent_s() - self._probed_s < due_s:
            return
        self._probed_s = self._budget.spent_s()
        self._table.write_header(self._probed(during=True))
        self._settle(self._unsettled)
        self._unsettled = []

    def _probed(self, *, during: bool) -> ProfileHeader:
        """The header with the probe taken once more."""
        header = self._table.header
        seconds = self._probe.seconds()
        probe = header.probe or Probe(before_s=seconds)
        update = {"during_s": [*probe.during_s, seconds]} if during else {"after_s": seconds}
        interrupted = [*probe.interrupted, self._probe.interrupted()]
        always = {"interrupted": interrupted, "anchors": self._typical()}
        return header.model_copy(update={"probe": probe.model_copy(update=update | always)})

    # -- single kernels ---------------------------------------------------------------------------------------------

    def _measure(self, group: list[Shape]) -> bool:
        """Visit the shapes of a group that share weights and were not measured yet; whether all of it is now."""
        found = self._visit([shape for shape in group if not self._is_known(shape)])
        if found:
            self._groups.append(found)
        for shape in found:
            self._table.add(shape.kind, self._visits.row(shape, self._typical()))
        return all(self._is_known(shape) for shape in group)

    def _visit(self, shapes: list[Shape]) -> list[Shape]:
        """Time shapes once more in a steady moment; those for which there was time and a kernel."""
        members = [member for shape in shapes if (member := self._prepare(shape)) is not None]
        if not members:
            return []
        look, samples = self._probe.steadily(partial(self._sampled, members))
        found = [member.shape for member, _ in zip(members, samples, strict=False)]
        for member, taken in zip(members, samples, strict=False):
            self._visits.add(member.shape, member.kernel, taken, look)
        self._unsettled.extend(found)
        self._probe_when_due()
        return found

    def _sampled(self, members: list[_Member]) -> tuple[dict[str, float], list[list[float]]]:
        """What the anchors took around a visit, and the samples of its first shapes, as many as there was time for."""
        share = VISIT[self._machine.device]
        around = [self._looks.look()] if share < 1.0 else []
        samples = [member.replay.visit(share) for member in members if not self._budget.over]
        if not around:
            self._looks.look_when_due()
            return {}, samples
        return typical([*around, self._looks.look()]), samples

    def _typical(self) -> dict[str, float]:
        """What the anchors take where rows are as they are written."""
        return self._known_anchors or self._looks.typical()

    def _settle(self, shapes: Iterable[Shape]) -> None:
        rows: dict[str, list[Row]] = {}
        reference = self._typical()
        for shape in shapes:
            rows.setdefault(shape.kind, []).append(self._visits.row(shape, reference))
        for kind, better in rows.items():
            self._table.correct(kind, better)

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
                prepared.launch,
                buffers=prepared.buffers,
                clock=self._clock,
                capture=self._capture,
                before=prepared.before,
            )
            return _Member(shape, prepared.kernel, replay)
        except (RuntimeError, NotImplementedError) as error:  # running out of memory is a RuntimeError too
            self._failed.add(shape)
            self._kernels.release()
            reason = str(error).strip().split("\n")[0][:120]
            what = " ".join(word for word in (shape.kind, shape.operation, shape.dtype) if word)
            self._note(f"{what} is not measured everywhere: {reason}", f"at {'x'.join(f'{v:g}' for v in shape.shape)}")
            return None

    def _worst_shapes(self, kind: str, cache: str) -> list[Shape]:
        header = self._table.header
        rows = [
            row for row in self._table.rows(kind) if (row.dtype, row.cache, row.operation) == (self._dtype, cache, "")
        ]
        return worst_shapes(kind, rows, header.ceilings.copy_bytes_per_s, self._rate, self._is_allowed)

    def _is_allowed(self, shape: Shape) -> bool:
        return shape not in self._failed and worthwhile(shape, self._grid, self._machine.last_level_cache_bytes)

    # -- whole parts ------------------------------------------------------------------------------------------------

    def _measure_part(self, kind: str, missing: Callable[[], Rows | None]) -> bool:
        """Measure what the table lacks of a part; whether there was time for it."""
        rows = missing()
        return rows is None or self._add_all(kind, rows)

    def _add_all(self, kind: str, rows: Callable[[], Iterable[Row]]) -> bool:
        """Add what a part yields, row by row; whether there was time for it."""
        if self._budget.over:
            return False
        self._budget.report(kind)
        self._probe_when_due()
        try:
            for row in rows():
                if not self._table.holds(kind, row.key()):
                    self._table.add(kind, row)
        except (RuntimeError, NotImplementedError) as error:
            self._kernels.release()
            self._note(f"{kind} was cut short: {str(error).strip().split(chr(10))[0][:120]}")
        return True
