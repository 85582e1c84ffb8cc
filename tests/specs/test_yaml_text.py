"""YAML that is no data, or too much of it, is refused before anything of it is built."""

from __future__ import annotations

import time

import pytest

from specsim.specs.yaml_text import parse_yaml

BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!int x", ", line 1: the tag !!int; write the plain value"),
        ("a: 1\nb: !!python/object:os.system x", ", line 2: the tag !!python/object:os.system; write the plain value"),
        ("a: " + "9" * 5_000, ", line 1: a number of 5,000 digits"),
        ("a: " + "[" * 3_000, ", line 1: more than 64 brackets or indents within each other"),
        ("{a: " * 3_000, ", line 1: more than 64 brackets or indents within each other"),
        (BOMB, "more than 1,000,000 values, each alias counted as what it stands for"),
    ],
)
def test_what_cannot_be_data_is_one_line_and_costs_nothing(text: str, message: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        parse_yaml(text)
    assert message in str(error.value)
    assert time.process_time() - began < 1.0


def test_a_date_that_is_none_is_text() -> None:
    assert parse_yaml("a: 2026-02-30\nb: 2026-02-28") == {"a": "2026-02-30", "b": "2026-02-28"}
