"""Measuring in steady moments, on a clock whose disturbances are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest

pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiling.device import probe  # noqa: E402
from specsim.profiling.device.probe import ATTEMPTS, DISTURBED, SHORT, MachineProbe  # noqa: E402
from specsim.profiling.device.timer import CallCapture, Timing  # noqa: E402


class ScriptedClock:
    """The probe takes 1 s, or what the script says for each look (SHORT samples a look)."""

    def __init__(self) -> None:
        self.script: list[float] = []

    def play(self, looks: Iterable[float]) -> None:
        self.script = [look for look in looks for _ in range(SHORT)]

    def seconds(self, run: Callable[[], None], before: Callable[[], object] | None = None) -> float:
        return self.script.pop(0) if self.script else 1.0


def probe_and_clock() -> tuple[MachineProbe, ScriptedClock]:
    clock = ScriptedClock()
    return MachineProbe("cpu", "float32", clock, CallCapture()), clock


def timings(*medians: float) -> Callable[[], Timing]:
    waiting = [Timing(m, m, m, 1) for m in medians]
    return lambda: waiting.pop(0)


def test_a_steady_machine_measures_once() -> None:
    probe, _ = probe_and_clock()
    assert probe.steadily(timings(5.0)).median_s == 5.0
    assert probe.seconds() == 1.0


def test_a_disturbed_measurement_is_taken_again() -> None:
    probe, clock = probe_and_clock()
    for _ in range(20):  # what is typical must be known first
        probe.steadily(timings(1.0))
    clock.play([2.0, 1.0])
    assert probe.steadily(timings(9.0, 5.0)).median_s == 5.0


def test_a_machine_that_stays_disturbed_is_not_waited_for() -> None:
    probe, clock = probe_and_clock()
    for _ in range(20):
        probe.steadily(timings(1.0))
    clock.play([2.0] * ATTEMPTS)
    taken = timings(*range(1, ATTEMPTS + 2))
    assert probe.steadily(taken).median_s == ATTEMPTS


def test_a_change_that_lasts_becomes_typical() -> None:
    """Half as fast for good: soon nothing is taken again."""
    probe, clock = probe_and_clock()
    calls = 0

    def measure() -> Timing:
        nonlocal calls
        calls += 1
        return Timing(1.0, 1.0, 1.0, 1)

    clock.play([2.0] * 50)
    for _ in range(10):
        probe.steadily(measure)
    calls = 0
    for _ in range(5):
        probe.steadily(measure)
    assert calls == 5
    assert DISTURBED < 2.0


def test_interruptions_are_what_the_mean_exceeds_the_median_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in twenty probes of 2 ms waits 8 ms longer: 0.4 ms a probe in the mean, a fifth of the median."""
    probe, _ = probe_and_clock()
    ticks = itertools.count()

    def now() -> float:  # called before and after each probe
        probes, after = divmod(next(ticks), 2)
        waited = (probes + after + 19) // 20 * 0.008
        return (probes + after) * 0.002 + waited

    monkeypatch.setattr("specsim.profiling.device.probe.PROBING_S", 60.0)
    monkeypatch.setattr("specsim.profiling.device.probe.time.perf_counter", now)
    assert probe.interrupted() == pytest.approx(0.2)


def test_a_series_of_probes_ends_in_time_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow() -> float:
        now[0] += 0.25
        return 0.25

    monkeypatch.setattr(probe.time, "monotonic", lambda: now[0])
    assert probe._within(0.6, 200, slow) == [0.25] * 5
    assert probe._within(0.6, 3, slow) == [0.25] * 3
    assert len(probe._within(10.0, 200, slow)) == 40
