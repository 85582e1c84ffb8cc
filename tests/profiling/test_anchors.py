"""Anchors: what is typical of many looks, looks on this CPU, and what ``specsim profile now`` says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.cli.profile import app  # noqa: E402
from specsim.errors import InvalidInput  # noqa: E402
from specsim.profiles.schema import Ceilings, Probe, ProfileHeader  # noqa: E402
from specsim.profiles.store import load_profile, write_profile  # noqa: E402
from specsim.profiling.device import (  # noqa: E402
    anchors,
    machine,
    timer,
)
from specsim.profiling.device.anchors import ANCHORS, Anchors, Looks, anchors_of, ratios, typical  # noqa: E402
from specsim.profiling.kernels import launches as kernels  # noqa: E402


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COLD_POOL", 1.0)


def same(seconds: float) -> dict[str, float]:
    return dict.fromkeys(ANCHORS, seconds)


def header(probe: Probe | None, **changes: object) -> ProfileHeader:
    """A profile of this machine."""
    facts = machine.inspect("cpu")
    fields: dict[str, object] = {
        "schema": 1, "gpu": "made", "device_name": facts.device_name, "device": "cpu", "threads": facts.threads,
        "clocks": "-", "driver": "-", "versions": {}, "date": "2026-01-01", "attribution": "a test",
        "last_level_cache_bytes": 2**20, "memory_bytes": 10**11, "launch_s": 1e-6,
        "ceilings": Ceilings(copy_bytes_per_s=1e12, flops_per_s={"float32": 1e14}), "probe": probe,
    }  # fmt: skip
    return ProfileHeader.model_validate(fields | changes)


def test_ratios_are_now_over_then_for_what_both_sides_hold() -> None:
    now, profiled = same(2.0) | {"memory": 3.0}, same(4.0) | {"memory": 2.0}
    assert ratios(now, profiled) == same(0.5) | {"memory": 1.5}
    del profiled["host"], now["compute"]
    assert set(ratios(now, profiled)) == {"memory", "attention", "elementwise"}


def test_one_wild_look_says_nothing_and_a_change_that_lasts_counts_by_its_time() -> None:
    quiet = [same(1.0)] * 19
    assert typical([*quiet, same(500.0)]) == pytest.approx(same(1.0))
    half = [same(1.0)] * 10 + [same(2.0)] * 10  # a median would be either of the two, or their mean by luck
    assert typical(half) == pytest.approx(same(1.5))
    most = [same(1.0)] * 6 + [same(2.0)] * 14  # two trimmed at either end: 4 of 16 are short
    assert typical(most)["memory"] == pytest.approx((4 * 1.0 + 12 * 2.0) / 16)
    with pytest.raises(ValueError, match="no look"):
        typical([])


def test_looks_on_this_cpu_are_positive_and_agree() -> None:
    found = Anchors("cpu", machine.default_dtype("cpu"))
    looks = [found.look() for _ in range(12)]
    assert all(tuple(look) == ANCHORS for look in looks)
    first, second = (
        {name: float(np.median([look[name] for look in half])) for name in ANCHORS} for half in (looks[:6], looks[6:])
    )
    for name in ANCHORS:
        assert min(look[name] for look in looks) > 0
        assert 1 / 4 < second[name] / first[name] < 4  # a busy machine, not another kernel
    assert sum(first.values()) < 0.2


def test_an_anchor_is_the_time_of_one_launch_after_others_untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that charges 1 ms a launch gives 1 ms for every kernel, however many launches a look makes."""
    launched: list[int] = []

    class CountingCapture(timer.CallCapture):
        def capture(self, launch: timer.Launch, *, launches: int, buffers: int) -> tuple[Callable[[], None], int]:
            return super().capture(launched.append, launches=launches, buffers=buffers)

    class ChargingClock:
        def seconds(self, run: Callable[[], None], before: Callable[[], object] | None = None) -> float:
            earlier = len(launched)
            run()
            timed.append((earlier, len(launched)))
            return 1e-3 * (len(launched) - earlier)

    timed: list[tuple[int, int]] = []
    monkeypatch.setattr(anchors, "clock_and_capture", lambda _: (ChargingClock(), CountingCapture()))
    look = Anchors("cpu", "float32").look()
    del look["host"]
    assert look == pytest.approx(dict.fromkeys(anchors.WORK, 1e-3))
    counts = [end - start for start, end in timed]
    starts = [sum(counts), *(end for _, end in timed)]  # all of them once, before any is timed
    assert [start - end for (start, _), end in zip(timed, starts, strict=False)] == counts


def test_memory_walks_on_through_its_pool_and_the_others_stay_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COLD_POOL", 8.0)
    pools: dict[str, int] = {}
    prepare = kernels.Kernels.prepare

    def counted(self: kernels.Kernels, shape: object) -> kernels.Prepared:
        prepared = prepare(self, shape)  # type: ignore[arg-type]
        pools[list(anchors.WORK)[len(pools)]] = prepared.buffers
        return prepared

    monkeypatch.setattr(kernels.Kernels, "prepare", counted)
    facts = machine.inspect("cpu")
    Anchors("cpu", machine.default_dtype("cpu"), facts)
    one_bytes = machine.DTYPES[machine.default_dtype("cpu")].itemsize * 4096 * 1024
    assert pools["memory"] * one_bytes > 4 * facts.last_level_cache_bytes
    assert pools["compute"] * one_bytes <= max(one_bytes, facts.last_level_cache_bytes / 2)


class _Scripted(Anchors):
    """Anchors that take what the test says."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self._seconds = seconds

    def look(self) -> dict[str, float]:
        return same(next(self._seconds))


def test_looks_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(anchors.time, "monotonic", lambda: clock[0])
    looks = Looks(_Scripted(float(n) for n in range(1, 100)), every_s=1.0)
    assert looks.typical() == {}
    for _ in range(8):  # a quarter of a second each: looks at 0 and at 1 s
        looks.look_when_due()
        clock[0] += 0.25
    assert looks.typical() == same(1.5)
    assert looks.look() == same(3.0)  # asked for, due or not
    assert looks.typical() == same(2.0)


def test_now_prints_what_to_paste(tmp_path: Path) -> None:
    found = Anchors("cpu", "float32").typical(0.2)
    slow = {name: 2 * seconds for name, seconds in found.items()}
    write_profile(tmp_path / "p", header(Probe(before_s=1.0, anchors=slow)), {})
    arguments = ["now", f"{tmp_path / 'p'}/", "--seconds", "0.2"]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.exception
    conditions = yaml.safe_load(printed.stdout.strip().splitlines()[-1])["conditions"]
    assert tuple(conditions) == ANCHORS
    assert all(0.5 / 4 < ratio < 0.5 * 4 for ratio in conditions.values())
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert document["conditions"] == pytest.approx(ratios(document["now"], slow), abs=1e-3)


@pytest.mark.parametrize(
    ("probe", "changes", "message"),
    [
        (None, {}, "holds no anchors .* specsim profile run"),
        (Probe(before_s=1.0), {}, "holds no anchors .* specsim profile run"),
        (Probe(before_s=1.0, anchors=same(1.0)), {"device_name": "another"}, "is of another and this machine is"),
        (Probe(before_s=1.0, anchors=same(1.0)), {"threads": 777}, "777 threads .* OMP_NUM_THREADS=777"),
    ],
)
def test_now_needs_anchors_of_this_machine(
    tmp_path: Path, probe: Probe | None, changes: dict[str, object], message: str
) -> None:
    write_profile(tmp_path / "p", header(probe, **changes), {})
    refused = CliRunner().invoke(app, ["now", f"{tmp_path / 'p'}/", "--seconds", "0.01"])
    assert isinstance(refused.exception, InvalidInput)
    assert "\n" not in str(refused.exception)
    with pytest.raises(InvalidInput, match=message):
        anchors_of(load_profile(f"{tmp_path / 'p'}/").header)


def test_now_refuses_no_time(tmp_path: Path) -> None:
    for seconds in ("0", "-1", "nan"):
        refused = CliRunner().invoke(app, ["now", f"{tmp_path}/", "--seconds", seconds])
        assert isinstance(refused.exception, InvalidInput)
        assert "--seconds" in str(refused.exception)
