"""Profile files: what they hold survives, what cannot be true is refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from specsim.errors import InvalidInput
from specsim.profiles.schema import Row
from specsim.profiles.store import append_rows, load_profile, profile_names, read_rows

ROW = Row((4.0, 512.0, 256.0), "", "bfloat16", "linear", "cold", "eager", 2e-4, 1.9e-4, 2.2e-4, 20)


def test_rows_survive_the_file(tmp_path: Path) -> None:
    append_rows(tmp_path, "gemm", [ROW])
    append_rows(tmp_path, "gemm", [ROW])
    assert read_rows(tmp_path / "gemm.csv", "gemm") == (ROW, ROW)


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


def test_shipped_profiles_are_readable_and_name_a_cpu() -> None:
    names = profile_names()
    assert any("cpu" in name for name in names)
    for name in names:
        profile = load_profile(name)
        assert all(profile.rows[kind] for kind in ("gemm", "attention", "elementwise", "sampling", "host"))
        assert profile.header.heldout_error["gemm"].n > 100


def test_an_unknown_profile_offers_near_names() -> None:
    name = profile_names()[0]
    with pytest.raises(InvalidInput, match=name):
        load_profile(name[:-2] + "x")
