"""Text files that people bring: packed ones are read, or refused in a line that says what unpacks them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from specsim.cli.main import main
from specsim.errors import InvalidInput
from specsim.interop.acceptance import read_log_file
from specsim.interop.traces.read import read_trace
from specsim.text_file import read_text

LOG = (
    "INFO 11-30 10:00:10 [metrics.py:100] SpecDecoding metrics: Mean acceptance length: 2.55, Accepted throughput: "
    "155.0 tokens/s, Drafted throughput: 300.0 tokens/s, Accepted: 1550 tokens, Drafted: 3000 tokens, Per-position "
    "acceptance rate: 0.720, 0.500, 0.330, Avg Draft acceptance rate: 51.7%\n"
)
TRACE = "timestamp,input_length,output_length\n" + "".join(f"{n * 500},{100 + n},{10 + n}\n" for n in range(40))


def packed(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    return path


def test_what_gzip_packed_reads_as_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text(LOG)
    plain, zipped = (read_log_file(tmp_path / "server.log"), read_log_file(packed(tmp_path / "server.log.gz", LOG)))
    assert plain.counts is not None
    assert zipped.counts is not None
    assert zipped.counts.drafting_rounds() == plain.counts.drafting_rounds() == 1000
    (tmp_path / "trace.csv").write_text(TRACE)
    traces = [read_trace(tmp_path / "trace.csv"), read_trace(packed(tmp_path / "trace.csv.gz", TRACE))]
    assert traces[0].requests.prompt_tokens.tolist() == traces[1].requests.prompt_tokens.tolist()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (bz2.compress(LOG.encode()), "packed by bzip2; unpack it (bunzip2 server.log)"),
        (lzma.compress(LOG.encode()), "packed by xz; unpack it (unxz server.log)"),
        (b"\x28\xb5\x2f\xfd" + LOG.encode(), "packed by zstd; unpack it (zstd -d server.log)"),
        (gzip.compress(LOG.encode())[:-9], "gzip data is broken or cut short"),
        (b"\x1f\x8bnot really", "gzip data is broken or cut short"),
    ],
)
def test_what_else_is_packed_is_refused_in_a_line(
    tmp_path: Path, content: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(content)
    assert main(["fit", str(path), "--out", str(tmp_path / "law.yaml")]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1


def test_an_unpacked_file_may_not_be_larger_than_a_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specsim.text_file.LARGEST_BYTES", 1000)
    with pytest.raises(InvalidInput, match="larger than 1 GiB"):
        read_text(packed(tmp_path / "bomb.gz", "0" * 2000), "a log")


def test_a_pipe_is_read_once_and_tells_the_same_to_whoever_reads_it_again() -> None:
    """A log is looked at to find its format and then read; a trace is begun again. The pipe gives its bytes once."""
    for content in (LOG.encode(), gzip.compress(LOG.encode())):
        with piped(content) as path:
            record = read_log_file(path)
            assert record.counts is not None
            assert record.counts.drafting_rounds() == 1000
    for content in (TRACE.encode(), gzip.compress(TRACE.encode())):
        with piped(content) as path:
            assert read_trace(path).requests.prompt_tokens.tolist() == [100 + n for n in range(40)]


@contextmanager
def piped(content: bytes) -> Iterator[Path]:
    """The path of a pipe's end, as a shell's process substitution gives it."""
    if not Path("/dev/fd").exists():
        pytest.skip("no /dev/fd here")
    end, begin = os.pipe()
    os.write(begin, content)
    os.close(begin)
    try:
        yield Path(f"/dev/fd/{end}")
    finally:
        os.close(end)


def test_a_packed_trace_of_one_endless_line_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """400 MB of zeros in a file of 400 KB."""
    path = tmp_path / "trace.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(400):
            file.write(b"0" * 10**6)
    zeros = path.read_bytes()
    for start in (b"", b"\n\n", b"{", b"timestamp,input_length,output_length\n"):
        path.write_bytes(gzip.compress(start) + zeros)
        tracemalloc.start()
        with pytest.raises(InvalidInput, match=r"trace\.csv\.gz, line \d is longer than 16,777,216 characters"):
            read_trace(path)
        assert tracemalloc.get_traced_memory()[1] < 150e6
        tracemalloc.stop()


def test_a_log_and_its_packed_copy_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.log").write_text(LOG)
    copies = [str(tmp_path / "server.log"), str(packed(tmp_path / "server.log.gz", LOG))]
    assert main(["fit", *copies, "--out", str(tmp_path / "law.yaml")]) == 2
    assert "server.log again, and would count twice; give it once" in capsys.readouterr().err
