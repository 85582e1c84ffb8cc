"""Studies as files: what a row says, and every fault of them in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from specsim.errors import InvalidInput
from specsim.studies.study import load_study, set_fields, studies_folder, study_names, study_path
from tests.studies.tiny import write_study

HEADER = "split,drafter,blocks,k,concurrency,acceptance_length,output_throughput,output_throughput_spread\n"


def test_a_row_says_what_it_sets_and_what_was_measured(tmp_path: Path) -> None:
    _, (row,) = load_study(write_study(tmp_path, HEADER + "test,eagle3,32,3,8,2.5,1234,0.02\n"))
    assert (row.split, row.k, row.acceptance_length, row.load) == ("test", 3, 2.5, ("concurrency", 8.0))
    assert row.settings == {"workload.arrivals.concurrency": 8.0, "engine.block_size": 32}
    assert (row.figures, row.spreads) == ({"output_throughput": 1234.0}, {"output_throughput": 0.02})


def test_all_faults_of_the_figures_come_in_one_line(tmp_path: Path) -> None:
    bad = HEADER + "tset,eagle3,16,3,8,2.5,1234,\ntest,eagel3,16,3,8,5,x,\ntest,none,16,0,1,,,\ntest,none\n"
    with pytest.raises(InvalidInput) as caught:
        load_study(write_study(tmp_path, bad))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for fault in (
        "line 2: split 'tset' is neither calibration nor test",
        "line 3: acceptance_length 5 exceeds k + 1 = 4",
        "line 3: output_throughput 'x' is not a number",
        "line 3: drafter 'eagel3' is none of none, eagle3",
        "line 4: it holds no figure",
        "line 5: it has not as many cells as the header",
    ):
        assert fault in message


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("drafter,blocks,speedup\n", "column 'split' is missing"),
        ("split,drafter,speedup\n", "column 'blocks' is missing"),
        ("split,drafter,blocks,speedpu\n", "nobody says what column 'speedpu' is"),
        ("split,drafter,blocks,k\n", "no column is a quantity"),
        (HEADER, "it holds no row"),
    ],
)
def test_faults_of_the_header(tmp_path: Path, header: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        load_study(write_study(tmp_path, header))


def test_a_study_without_figures_says_where_to_put_them(tmp_path: Path) -> None:
    path = write_study(tmp_path, HEADER)
    path.with_suffix(".csv").unlink()
    with pytest.raises(InvalidInput, match="put the study's figures there"):
        load_study(path)


def test_fields_are_set_by_path_and_the_given_ones_stay_as_they_are() -> None:
    fields = {"engine": {"block_size": 16}}
    made = set_fields(fields, {"engine.max_num_seqs": 4, "deployment.kv_bits": 8})
    assert made == {"engine": {"block_size": 16, "max_num_seqs": 4}, "deployment": {"kv_bits": 8}}
    assert fields == {"engine": {"block_size": 16}}


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_is_read_and_named_in_the_split(name: str) -> None:
    """Whoever adds a study adds its line to the page first, and one of its rows at least."""
    study, rows = load_study(study_path(name))
    assert rows
    assert study.source
    assert f"`{name}`" in (studies_folder() / "README.md").read_text()


def test_an_unknown_study_names_near_ones() -> None:
    with pytest.raises(InvalidInput, match="did you mean a100-kv-tokens"):
        study_path("a100-kv-token")
