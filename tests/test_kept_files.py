"""What took long to make survives kills, full disks and a second writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from specsim.errors import InvalidInput, NoAnswer
from specsim.kept_files import append_csv, only_writer, read_csv, replace_text, replacing


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "table.txt"
    replace_text(file, "old\n")

    def stop_half_way() -> None:
        with replacing(file) as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_half_way()
    assert file.read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    def fill() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() raises it: without a name

    with pytest.raises(OSError, match=r"No space left on device: '.*table\.csv'"), replacing(tmp_path / "table.csv"):
        fill()


def test_a_torn_row_is_left_out_and_written_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    append_csv(file, ("repeat", "name"), [(0, "a"), (1, "b")])
    whole = file.read_bytes()
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        kept = [row["name"] for _, row in read_csv(file)]
        missing = [row for row in ((0, "a"), (1, "b")) if row[1] not in kept]
        append_csv(file, ("repeat", "name"), missing)
        assert file.read_bytes() == whole


def test_a_row_of_other_cells_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("repeat,name\n0,a\n1\n")
    with pytest.raises(InvalidInput, match=r"rows\.csv, line 3: other than 2 cells"):
        list(read_csv(tmp_path / "rows.csv"))


def test_a_second_writer_is_told_and_a_killed_one_is_no_hindrance(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from specsim.kept_files import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    first = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(NoAnswer, match="another process is writing into"), only_writer(tmp_path):
            pass
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with only_writer(tmp_path):
        pass
