"""Traces: three formats by their columns, and every fault named with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specsim.errors import InvalidInput
from specsim.interop.traces import read_trace


def write(folder: Path, *lines: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
PLAIN = "arrival_s,prompt_tokens,output_tokens"


def test_azure_arrivals_start_at_zero_and_keep_their_digits(tmp_path: Path) -> None:
    path = write(tmp_path, AZURE, "2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109")
    first, second = read_trace(path)
    assert (first.request_id, first.arrival_s, first.prompt_tokens, first.output_tokens) == (0, 0.0, 374, 44)
    assert second.arrival_s == 4.314579
    assert second.request_class == "default"


def test_azure_offsets_are_honoured_across_midnight(tmp_path: Path) -> None:
    rows = (
        "2024-05-10 23:59:59.5000000+00:00,1,1",
        "2024-05-11 02:00:00.2500000+02:00,2,2",
        "2024-05-11 00:00:01,3,3",
    )
    assert [r.arrival_s for r in read_trace(write(tmp_path, AZURE, *rows))] == [0.0, 0.75, 1.5]


def test_azure_with_crlf_bom_and_a_further_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    text = f"{AZURE},NumImages\r\n2023-11-16 18:15:46.0,10,20,0\r\n2023-11-16 18:15:47.0,11,21,3\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in read_trace(path)] == [(0, 10, 20), (1, 11, 21)]


def test_mooncake_milliseconds(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 5000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]},
        {"timestamp": 8001, "input_length": 7322, "output_length": 490, "hash_ids": []},
    ]
    path = write(tmp_path, *map(json.dumps, rows), name="trace.anything")
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in read_trace(path)] == [
        (0.0, 6758, 500),
        (3.001, 7322, 490),
    ]


def test_plain_rows_are_sorted_and_keep_their_times_and_classes(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN + ",acceptance_class", "2.5,7,8,code", "1.5,5,6,chat", "", "2.5,9,10,")
    requests = read_trace(path)
    assert [r.request_id for r in requests] == [0, 1, 2]
    assert [r.arrival_s for r in requests] == [1.5, 2.5, 2.5]
    assert [r.prompt_tokens for r in requests] == [5, 7, 9]  # ties stay in file order
    assert [r.request_class for r in requests] == ["chat", "code", "default"]


def test_plain_json_lines_equal_plain_csv(tmp_path: Path) -> None:
    rows = [
        {"arrival_s": 0.5, "prompt_tokens": 3, "output_tokens": 4},
        {"arrival_s": 0.25, "prompt_tokens": 1, "output_tokens": 2},
    ]
    lines = write(tmp_path, *map(json.dumps, rows), name="a.jsonl")
    table = write(tmp_path, PLAIN, "0.5,3,4", "0.25,1.0,2")
    assert read_trace(lines) == read_trace(table)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("1,-5,3", "prompt_tokens is '-5'"),
        ("1,5,0", "output_tokens is '0'"),
        ("1,0,3", "prompt_tokens is '0'"),
        ("1,5.5,3", "prompt_tokens is '5.5'"),
        ("1,many,3", "prompt_tokens is 'many', not a number"),
        ("1,nan,3", "prompt_tokens is 'nan'"),
        ("1,inf,3", "prompt_tokens is 'inf'"),
        ("1,,3", "prompt_tokens is '', not a number"),
        ("-1,5,3", "arrival_s is '-1'"),
        ("nan,5,3", "arrival_s is 'nan'"),
        ("soon,5,3", "arrival_s is 'soon', not a time"),
        ("1,5", "not the header's 3 columns"),
        ("1,5,3,9", "not the header's 3 columns"),
    ],
)
def test_malformed_rows_name_file_line_and_value(tmp_path: Path, row: str, fault: str) -> None:
    path = write(tmp_path, PLAIN, "0,1,1", row)
    with pytest.raises(InvalidInput) as caught:
        read_trace(path)
    message = str(caught.value)
    assert message.startswith(f"trace {path}, line 3: ")
    assert fault in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "row",
    [
        '{"timestamp": 1, "input_length": 5}',
        "not json",
        "[1, 2]",
        '{"timestamp": 1, "input_length": true, "output_length": 2}',
    ],
)
def test_malformed_json_lines(tmp_path: Path, row: str) -> None:
    path = write(tmp_path, '{"timestamp": 0, "input_length": 5, "output_length": 5}', row)
    with pytest.raises(InvalidInput, match="line 2: "):
        read_trace(path)


def test_bad_wall_clock(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="line 2: TIMESTAMP is 'yesterday', not a time"):
        read_trace(write(tmp_path, AZURE, "yesterday,1,1"))


def test_unknown_columns_name_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "num_prefill_tokens,num_decode_tokens", "1,2")
    with pytest.raises(InvalidInput, match=r"num_prefill_tokens.*arrival_s, prompt_tokens, output_tokens"):
        read_trace(path)


@pytest.mark.parametrize("lines", [("",), (PLAIN,)])
def test_an_empty_trace_is_refused(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="holds no requests"):
        read_trace(write(tmp_path, *lines))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no trace .*absent\.csv"):
        read_trace(tmp_path / "absent.csv")
    with pytest.raises(InvalidInput, match="cannot read trace"):
        read_trace(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_trace(tmp_path / "binary")
