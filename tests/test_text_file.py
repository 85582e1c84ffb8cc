"""Text files that people bring: packed ones are read, or refused in a line that says what unpacks them."""

from __future__ import annotations

import bz2
import gzip
import lzma
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
