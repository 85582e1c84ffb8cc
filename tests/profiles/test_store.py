"""Profile files: what they hold survives, what cannot be true is refused by file and line."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.aiconfigurator.profile import NARROW
from specsim.profiles import store
from specsim.profiles.rows import append_rows, read_rows
from specsim.profiles.schema import SHAPE_COLUMNS, Ceilings, HeldoutError, Probe, ProfileHeader, Row
from specsim.profiles.store import (
    Profile,
    find_profile,
    load_profile,
    merged,
    profile_names,
    profiles_folder,
    write_header,
    write_profile,
)
from specsim.surfaces.row_groups import row_groups

ROW = Row((4.0, 512.0, 256.0), "", "bfloat16", "linear", "cold", "eager", 2e-4, 1.9e-4, 2.2e-4, 20)
FOREIGN = replace(ROW, p10_s=None, p90_s=None, samples=None, source="vllm 0.24.0")
HEADER = ProfileHeader(
    schema=1, gpu="made", device_name="made", device="cuda", threads=1, clocks="-", driver="-", versions={},
    date="2026-01-01", attribution="a test", last_level_cache_bytes=2**20, memory_bytes=10**11, launch_s=1e-6,
    ceilings=Ceilings(copy_bytes_per_s=1e12, flops_per_s={"bfloat16": 1e14}), probe=Probe(before_s=1.0),
)  # fmt: skip


def test_rows_survive_the_file(tmp_path: Path) -> None:
    append_rows(tmp_path, "gemm", [ROW])
    append_rows(tmp_path, "gemm", [FOREIGN])
    assert read_rows(tmp_path / "gemm.csv", "gemm") == (ROW, FOREIGN)
    assert FOREIGN.spread == 0.0


@pytest.mark.parametrize("kind", list(SHAPE_COLUMNS))
def test_every_class_survives_the_file(tmp_path: Path, kind: str) -> None:
    row = replace(ROW, shape=tuple(float(i + 1) for i in range(len(SHAPE_COLUMNS[kind]))), operation="x")
    append_rows(tmp_path, kind, [row])
    assert read_rows(tmp_path / f"{kind}.csv", kind) == (row,)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (("0.0002", "-0.0002"), "positive and finite"),
        (("0.0002", "nan"), "positive and finite"),
        (("0.0002", "quick"), "not a number"),
        (("0.0002", "0.5"), "does not hold"),
        (("4,512", "0,512"), "positive and finite"),
        (("m,n", "mm,n"), "column 'm' is missing"),
    ],
)
def test_a_corrupt_row_names_file_and_line(tmp_path: Path, wrong: tuple[str, str], rule: str) -> None:
    append_rows(tmp_path, "gemm", [ROW])
    path = tmp_path / "gemm.csv"
    path.write_text(path.read_text().replace(*wrong, 1))
    with pytest.raises(InvalidInput, match=rule) as caught:
        read_rows(path, "gemm")
    assert "gemm.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_csv_is_one_line(tmp_path: Path) -> None:
    """A lone carriage return, as some editors end lines; nothing but line ends."""
    file = tmp_path / "gemm.csv"
    for text in ("m,n,k\r1,2,3\n", "\r\r\n"):
        file.write_bytes(text.encode())
        with pytest.raises(InvalidInput, match=r"gemm\.csv(:| is no table of comma-separated values)"):
            read_rows(file, "gemm")
    file.write_bytes(b"\n")
    with pytest.raises(InvalidInput, match="column 'm' is missing"):
        read_rows(file, "gemm")


def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path: Path) -> None:
    append_rows(tmp_path, "gemm", [ROW, ROW])
    path = tmp_path / "gemm.csv"
    path.write_text(path.read_text()[:-9])
    with pytest.warns(UserWarning, match=r"gemm.csv: the last line has no end"):
        assert read_rows(path, "gemm") == (ROW,)


def made(folder: Path, header: ProfileHeader = HEADER, **rows: list[Row]) -> Profile:
    write_profile(folder, header, rows)
    return load_profile(f"{folder}/")


def test_times_in_the_wrong_unit_are_refused(tmp_path: Path) -> None:
    """4096 cubed is 137 GFLOP: 1.4 ms at this machine's ceiling. A file in seconds loads, one in kiloseconds not."""
    big = replace(ROW, shape=(4096.0, 4096.0, 4096.0), median_s=2e-3, p10_s=2e-3, p90_s=2e-3)
    made(tmp_path / "right", gemm=[ROW, big])
    wrong = replace(big, median_s=2e-6, p10_s=2e-6, p90_s=2e-6)
    with pytest.raises(InvalidInput, match=r"gemm.csv:3: 2e-06 s is faster .* 1 of 2 rows; check the unit"):
        made(tmp_path / "wrong", gemm=[ROW, wrong])


def test_a_cache_may_serve_a_row_but_no_cache_is_a_hundred_times_as_fast(tmp_path: Path) -> None:
    """1 x 4096 x 4096 moves 33.6 MB: 34 us from this memory, 8 us from a cache, never 0.3 us."""
    cached = replace(FOREIGN, shape=(1.0, 4096.0, 4096.0), median_s=8e-6)
    assert made(tmp_path / "cached", gemm=[cached]).rows["gemm"] == (cached,)
    with pytest.raises(InvalidInput, match="faster than the ceilings"):
        made(tmp_path / "impossible", gemm=[replace(cached, median_s=3e-7)])


def test_a_datasheets_peak_is_harder_than_a_measured_ceiling(tmp_path: Path) -> None:
    fast = replace(FOREIGN, shape=(4096.0, 4096.0, 4096.0), median_s=2 * 4096**3 / 1.2e14)
    made(tmp_path / "own", gemm=[fast])
    with pytest.raises(InvalidInput, match="faster than the ceilings"):
        made(tmp_path / "imported", HEADER.model_copy(update={"importer": "x"}), gemm=[fast])


def test_another_schema_version_is_one_line(tmp_path: Path) -> None:
    made(tmp_path / "p", gemm=[ROW])
    path = tmp_path / "p" / "profile.yaml"
    path.write_text(path.read_text().replace("schema: 1", "schema: 2"))
    with pytest.raises(InvalidInput, match=r"schema 2 is not 1.*measure again"):
        load_profile(f"{tmp_path / 'p'}/")


def test_shipped_profiles_are_readable_and_name_a_cpu() -> None:
    names = profile_names()
    assert any("cpu" in name for name in names)
    for name in names:
        profile = load_profile(name)
        if profile.header.importer is None and profile.rows["gemm"]:
            assert all(profile.rows[kind] for kind in ("gemm", "attention", "elementwise", "sampling", "host"))
            assert profile.header.heldout_error["gemm"].n > 100


@pytest.mark.parametrize("gpu", ["h200", "h100", "a100", "l40s", "b200", "b300", "gb200", "gb300", "rtx-pro-6000"])
def test_shipped_imports_are_compact_and_state_what_they_are_worth(gpu: str) -> None:
    """At most 10,500 rows beside 400 of an indexer and those of narrow formats, 1.35 MB in all (150 kB in a wheel).

    Tested on 2,000 rows or more, 30 % of them of unseen matrices.
    """
    [name] = [name for name in profile_names() if name.startswith(f"nvidia-{gpu}-aiconfigurator")]
    profile = load_profile(name)
    groups = {group.name: len(group.rows) for kind, rows in profile.rows.items() for group in row_groups(kind, rows)}
    assert all(count <= NARROW[name] for name, count in groups.items() if name in NARROW)
    usual = (count for name, count in groups.items() if name not in NARROW and not name.startswith("elementwise"))
    assert sum(usual) <= 10_500
    assert len(profile.rows["elementwise"]) <= 400
    assert sum(path.stat().st_size for path in profile.folder.iterdir() if path.stem != "elementwise") < 1_350_000
    assert "Apache-2.0" in profile.header.attribution
    stated = [error for error in profile.header.heldout_error.values() if error.seed is not None]
    assert sum(error.n for error in stated) >= 2000
    assert sum(error.unseen or 0 for error in stated) >= 0.3 * sum(error.n for error in stated)
    found = find_profile(profile.header.gpu)
    assert found is not None
    assert found.rows["gemm"]


def test_an_unknown_profile_offers_near_names() -> None:
    name = profile_names()[0]
    with pytest.raises(InvalidInput, match=name):
        load_profile(name[:-2] + "x")


def test_the_first_of_two_profiles_has_its_classes_and_lacks_only_what_it_has_not(tmp_path: Path) -> None:
    error = HeldoutError(median=0.01, p90=0.02, n=5)
    own = made(tmp_path / "own", HEADER.model_copy(update={"heldout_error": {"gemm": error}}), gemm=[ROW])
    size = replace(FOREIGN, shape=(1024.0, 8.0), operation="all_reduce")
    worse = HeldoutError(median=0.1, p90=0.2, n=5)
    theirs = made(
        tmp_path / "theirs",
        HEADER.model_copy(update={"importer": "x", "heldout_error": {"gemm": worse, "collective all_reduce": worse}}),
        gemm=[FOREIGN, FOREIGN],
        collective=[size],
    )
    both, lost = merged(own, theirs)
    assert both.rows["gemm"] == (ROW,)
    assert both.rows["collective"] == (size,)
    assert lost == {"gemm": 2}
    assert both.header.heldout_error == {"gemm": error, "collective all_reduce": worse}
    stranger = Profile("s", tmp_path, HEADER.model_copy(update={"gpu": "other"}), {})
    with pytest.raises(InvalidInput, match="one card"):
        merged(own, stranger)


def test_own_measurements_come_before_imported_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named so that the import sorts first: its place is decided by where its rows come from, not by its name."""
    made(
        tmp_path / "a-import",
        HEADER.model_copy(update={"importer": "x"}),
        gemm=[FOREIGN],
        moe=[replace(FOREIGN, shape=(8.0, 64.0, 64.0, 8.0, 2.0))],
    )
    monkeypatch.setattr(store, "profiles_folder", lambda: tmp_path)
    alone = find_profile("made")
    assert alone is not None
    assert alone.rows["gemm"] == (FOREIGN,)
    own_error = {"gemm": HeldoutError(median=0.01, p90=0.02, n=5)}
    made(tmp_path / "b-own", HEADER.model_copy(update={"heldout_error": own_error}), gemm=[ROW])
    both = find_profile("made")
    assert both is not None
    assert both.rows["gemm"] == (ROW,)
    assert len(both.rows["moe"]) == 1
    assert find_profile("unmade") is None


def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "p", gemm=[ROW])

    def full(self: Path, text: str, **encoding: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NoAnswer, match=r"cannot be written \(No space left on device\)"):
        write_profile(tmp_path / "p", HEADER, {"gemm": [ROW, ROW]})
    with pytest.raises(OSError, match="No space left"):
        write_header(tmp_path / "p", HEADER)
    monkeypatch.undo()
    assert load_profile(f"{tmp_path / 'p'}/").rows["gemm"] == (ROW,)
    assert not list((tmp_path / "p").glob("*.new"))


def test_old_headers_still_load(tmp_path: Path) -> None:
    """A header as this project first wrote them, without the fields that came later."""
    name = next(name for name in profile_names() if name.startswith("cpu"))
    shutil.copytree(profiles_folder() / name, tmp_path / "old")
    header = load_profile(f"{tmp_path / 'old'}/").header
    assert header.importer is None
    assert header.rejected_rows == {}
