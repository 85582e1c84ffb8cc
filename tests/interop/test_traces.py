"""Traces: formats by their columns, and every fault named with file and line."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.interop.traces import FORMATS, TimeUnit, TraceFormat, read_trace
from specsim.workload.request import MAX_TOKENS, Requests, RequestSpec


def write(folder: Path, *lines: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows_of(path: Path, **options: Any) -> list[RequestSpec]:
    return read_trace(path, **options).requests.rows()


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
PLAIN = "arrival_s,prompt_tokens,output_tokens"


def test_azure_arrivals_start_at_zero_and_keep_their_digits(tmp_path: Path) -> None:
    path = write(tmp_path, AZURE, "2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109")
    first, second = rows_of(path)
    assert (first.request_id, first.arrival_s, first.prompt_tokens, first.output_tokens) == (0, 0.0, 374, 44)
    assert second.arrival_s == 4.314579
    assert second.request_class == "default"


def test_azure_offsets_are_honoured_across_midnight(tmp_path: Path) -> None:
    rows = (
        "2024-05-10 23:59:59.5000000+00:00,1,1",
        "2024-05-11 02:00:00.2500000+02:00,2,2",
        "2024-05-11 00:00:01,3,3",
    )
    assert [r.arrival_s for r in rows_of(write(tmp_path, AZURE, *rows))] == [0.0, 0.75, 1.5]


def test_azure_with_crlf_bom_and_a_further_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    text = f"{AZURE},NumImages\r\n2023-11-16 18:15:46.0,10,20,0\r\n2023-11-16 18:15:47.0,11,21,3\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in rows_of(path)] == [(0, 10, 20), (1, 11, 21)]


def test_mooncake_milliseconds(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 5000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]},
        {"timestamp": 8001, "input_length": 7322, "output_length": 490, "hash_ids": []},
    ]
    path = write(tmp_path, *map(json.dumps, rows), name="trace.anything")
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in rows_of(path)] == [
        (0.0, 6758, 500),
        (3.001, 7322, 490),
    ]


def test_plain_rows_are_sorted_and_keep_their_times_and_classes(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN + ",acceptance_class", "2.5,7,8,code", "1.5,5,6,chat", "", "2.5,9,10,")
    requests = rows_of(path)
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
    assert rows_of(lines) == rows_of(table)


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
        ("1e300,5,3", "arrivals reach 1e+300 s, beyond three years"),
        ("1700000000,5,3", "beyond three years"),
        (
            f"1,{10**12},3",
            "prompt_tokens is '1000000000000'; a request has a whole number of tokens, 1 to 100,000,000",
        ),
        (f"1,5,{'9' * 5000}", "output_tokens is '999"),
        ("1,5,1e400", "output_tokens is '1e400'"),
        ("1,-0,3", "prompt_tokens is '-0'"),
        ("1,5", "not the header's 3 columns"),
        ("1,5,3,9", "not the header's 3 columns"),
    ],
)
def test_malformed_rows_name_file_line_and_value(tmp_path: Path, row: str, fault: str) -> None:
    path = write(tmp_path, PLAIN, "0,1,1", row)
    with pytest.raises(InvalidInput) as caught:
        read_trace(path)
    message = str(caught.value)
    assert message.startswith(f"trace {path}{': ' if 'beyond' in fault else ', line 3: '}")
    assert fault in message
    assert len(message) < 400
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
    path = write(tmp_path, "when,in,out", "1,2,3")
    with pytest.raises(
        InvalidInput, match=r"when, in, out.*arrival_s, prompt_tokens, output_tokens.*workload\.columns"
    ):
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


def test_bailian_counts_seconds_and_small_blocks(tmp_path: Path) -> None:
    """Its columns are Mooncake's and more, in other units."""
    rows = [
        {"chat_id": 7, "parent_chat_id": -1, "timestamp": 61.5, "input_length": 20, "output_length": 3, "type": "text",
         "turn": 1, "hash_ids": [4, 9]},
        {"chat_id": 8, "parent_chat_id": 7, "timestamp": 64.0, "input_length": 33, "output_length": 2, "type": "image",
         "turn": 2, "hash_ids": [4, 9, 11]},
    ]  # fmt: skip
    trace = read_trace(write(tmp_path, *map(json.dumps, rows)))
    assert trace.format == "bailian"
    assert [
        (r.arrival_s, r.prompt_tokens, r.request_class, r.prefix_hashes, r.hash_block_tokens)
        for r in trace.requests.rows()
    ] == [
        (0.0, 20, "text", (4, 9), 16),
        (2.5, 33, "image", (4, 9, 11), 16),
    ]


def test_mooncake_prefix_hashes_are_kept(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 9, "input_length": 600, "output_length": 1, "hash_ids": [0, 2]},
        {"timestamp": 3, "input_length": 1000, "output_length": 1, "hash_ids": [0, 1]},
        {"timestamp": 10, "input_length": 5, "output_length": 1, "hash_ids": []},
    ]
    found = rows_of(write(tmp_path, *map(json.dumps, rows)))
    assert [(r.prompt_tokens, r.prefix_hashes) for r in found] == [(1000, (0, 1)), (600, (0, 2)), (5, ())]
    assert {r.hash_block_tokens for r in found} == {512, 0}


BURST = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"


@pytest.mark.parametrize("header", [BURST, BURST.replace("Session ID,Elapsed time,", "")])
def test_burstgpt_is_read_by_name_and_failed_rows_are_counted(tmp_path: Path, header: str) -> None:
    rows = [
        "5,a,1.0,GPT-4,472,18,490,Conversation log",
        "45,b,2.0,ChatGPT,1087,0,1087,API log",
        "118,c,3.0,GPT-4,417,276,693,API log",
    ]
    if "Session" not in header:
        rows = [",".join((row.split(",")[0], *row.split(",")[3:])) for row in rows]
    trace = read_trace(write(tmp_path, header, *rows))
    assert (trace.format, trace.dropped) == ("burstgpt", 1)
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens, r.request_class) for r in trace.requests.rows()] == [
        (0.0, 472, 18, "Conversation log"),
        (113.0, 417, 276, "API log"),
    ]


def test_a_trace_of_failures_holds_no_requests(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no requests"):
        read_trace(write(tmp_path, BURST, "45,b,2.0,ChatGPT,1087,0,1087,API log"))


def test_vidur_lengths_have_no_arrivals(tmp_path: Path) -> None:
    path = write(tmp_path, "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio", "3742,284,4026,0.0759")
    requests = read_trace(path).requests
    assert requests.arrival_s is None
    assert (requests.prompt_tokens.tolist(), requests.output_tokens.tolist()) == ([3742], [284])
    path = write(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens", "3.5,10,20", "3.0,30,40")
    assert [(r.arrival_s, r.prompt_tokens) for r in rows_of(path)] == [(0.0, 30), (0.5, 10)]


def test_sharegpt_texts_become_estimated_lengths(tmp_path: Path) -> None:
    talks = [
        {
            "id": "x",
            "conversations": [
                {"from": "human", "value": "a" * 40},
                {"from": "gpt", "value": "b" * 400},
                {"from": "human", "value": "ignored"},
            ],
        },
        {"id": "y", "conversations": [{"from": "human", "value": "no answer"}]},
        {"id": "z", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]},
    ]
    path = write(tmp_path, json.dumps(talks))
    requests = read_trace(path).requests
    assert requests.arrival_s is None
    assert list(zip(requests.prompt_tokens.tolist(), requests.output_tokens.tolist(), strict=True)) == [
        (10, 100),
        (1, 1),
    ]


@pytest.mark.parametrize(
    "text", ["[{}]", '[{"conversations": [{"from": "human"}, {}]}]', "[1]", "[[", "[]", "[" * 9999]
)
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_trace(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_any_columns_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, "when,in,out,tag,prefix", '7000,5,6,code,"[1, 2]"', "4000,7,8,,")
    columns = TraceFormat.model_validate(
        {
            "arrival": "when",
            "prompt": "in",
            "output": "out",
            "class": "tag",
            "hashes": "prefix",
            "hash_block_tokens": 4,
            "time_unit": "ms",
        }
    )
    found = rows_of(path, columns=columns)
    assert found == [
        RequestSpec(0, 0.0, 7, 8),
        RequestSpec(1, 3.0, 5, 6, "code", prefix_hashes=(1, 2), hash_block_tokens=4),
    ]
    with pytest.raises(InvalidInput, match="no column 'inn' among when, in, out, tag, prefix"):
        read_trace(path, columns=columns.model_copy(update={"prompt": "inn"}))


def test_nanoseconds_since_1970_keep_their_digits(tmp_path: Path) -> None:
    start = 1_700_000_000_123_456_789
    path = write(tmp_path, "t,i,o", f"{start},1,1", f"{start + 1},1,1")
    columns = TraceFormat(arrival="t", prompt="i", output="o", time_unit="ns")
    assert [r.arrival_s for r in rows_of(path, columns=columns)] == [0.0, 1e-9]


@pytest.mark.parametrize(
    ("gap", "unit", "refused"),
    [(200, None, True), (200, "ms", False), (200, "s", False), (0.2, None, False), (0.0002, None, True)],
)
def test_a_rate_of_another_unit_is_refused_unless_stated(
    tmp_path: Path, gap: float, unit: TimeUnit | None, refused: bool
) -> None:
    """5 requests/s whose milliseconds are read as seconds are 0.005 requests/s."""
    path = write(tmp_path, PLAIN, *(f"{index * gap},5,5" for index in range(150)))
    if refused:
        with pytest.raises(InvalidInput, match=r"suggests another unit of time; set workload\.time_unit"):
            read_trace(path, time_unit=unit)
        return
    last = rows_of(path, time_unit=unit)[-1].arrival_s
    assert last == pytest.approx(149 * gap / (1000 if unit == "ms" else 1))


def test_a_wall_clock_where_seconds_should_be_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN, "2024-05-10 23:59:59,1,1", "2024-05-11 00:00:01,1,1")
    with pytest.raises(InvalidInput, match="set time_unit to wall_clock"):
        read_trace(path)
    # The plain format keeps its times, and 1970 is far: the user is told again.
    with pytest.raises(InvalidInput, match="count them from the trace's start"):
        read_trace(path, time_unit="wall_clock")


def test_repeated_rows_are_requests_of_their_own(tmp_path: Path) -> None:
    assert len(rows_of(write(tmp_path, PLAIN, "1,2,3", "1,2,3", "1,2,3"))) == 3


@pytest.mark.parametrize("hashes", ['"[1.5]"', '"[true]"', '"{}"', "7", f'"[{2**64}]"', "["])
def test_malformed_hashes(tmp_path: Path, hashes: str) -> None:
    with pytest.raises(InvalidInput, match=r"line 2: prefix_hashes is .*list of whole numbers"):
        read_trace(write(tmp_path, PLAIN + ",prefix_hashes", f"1,2,3,{hashes}"))


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="column 'output_tokens' appears twice"):
        read_trace(write(tmp_path, PLAIN + ",output_tokens", "1,2,3,4"))


def test_names_that_no_file_can_hold_are_refused(tmp_path: Path) -> None:
    row = '{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1, "acceptance_class": "\\ud800"}'
    with pytest.raises(InvalidInput, match="line 1: acceptance_class"):
        read_trace(write(tmp_path, row))


def check_arrays(requests: Requests) -> None:
    assert len(requests)
    assert requests.prompt_tokens.min() >= 1
    assert requests.output_tokens.min() >= 1
    if requests.arrival_s is not None:
        assert np.isfinite(requests.arrival_s).all()
        assert (np.diff(requests.arrival_s) >= 0).all()


JUNK = st.sampled_from(
    ("", " ", "nan", "-1", "1e999", "0", "7", "3.5", "null", "true", "[]", "{}", '"', "\x00", "\r", "\ufeff", "١٢")
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode(errors="replace"))
    | st.tuples(
        st.sampled_from((PLAIN, AZURE, BURST, PLAIN + ",prefix_hashes")),
        st.lists(st.lists(JUNK | st.text(max_size=5), min_size=3, max_size=4), max_size=4),
    ).map(lambda parts: "\n".join((parts[0], *map(",".join, parts[1]))).encode(errors="replace"))
    | st.lists(
        st.dictionaries(
            st.sampled_from(("timestamp", "input_length", "output_length", "hash_ids", "chat_id")),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers()),
            min_size=2,
        ),
        max_size=3,
    ).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
)
def test_no_file_does_worse_than_a_one_line_refusal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    try:
        requests = read_trace(path).requests
    except InvalidInput as error:
        told = str(error)
    else:
        told = ""
        check_arrays(requests)
    assert len(told.splitlines()) <= 1


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 10**7),
            st.integers(1, MAX_TOKENS),
            st.integers(1, MAX_TOKENS),
            st.sampled_from(("code", "chat, long", 'say "x"')),
        ),
        min_size=1,
        max_size=40,
    ),
    name=st.sampled_from(sorted(FORMATS)),
)
def test_every_format_reads_back_what_was_written(
    tmp_path: Path, rows: list[tuple[int, int, int, str]], name: str
) -> None:
    """Written by the format's own columns, as CSV and as JSON lines: times to the microsecond, the rest exactly."""
    form = FORMATS[name]
    ticks = {"s": 1e-3, "ms": 1.0}
    lines = []
    for time_ms, prompt, output, tag in rows:
        moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
        arrival = moment.isoformat(sep=" ") if form.time_unit == "wall_clock" else time_ms * ticks[form.time_unit]
        fields = {form.arrival: arrival, form.prompt: prompt, form.output: output}
        fields |= {form.request_class: tag} if form.request_class else {}
        lines.append(fields | dict.fromkeys(form.marks, 1))
    table = tmp_path / "t.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    expected = sorted(rows, key=lambda row: row[0])
    start = expected[0][0] if form.starts_at_zero else 0
    for path in (table, write(tmp_path, *map(json.dumps, lines), name="t.jsonl")):
        trace = read_trace(path, time_unit=form.time_unit)
        assert trace.format == name
        found = trace.requests.rows()
        assert [r.arrival_s for r in found] == pytest.approx([(row[0] - start) / 1e3 for row in expected], abs=1e-6)
        assert [(r.prompt_tokens, r.output_tokens) for r in found] == [row[1:3] for row in expected]
        assert [r.request_class for r in found] == [row[3] if form.request_class else "default" for row in expected]
