"""Command lines as people type them."""

from __future__ import annotations

import argparse
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.interop.command_line import read_command


def test_environment_program_flags_and_switches() -> None:
    command = read_command(
        "A=1 B='x y' python -u -m server model \\\n  --max_num_seqs 8 --sizes 1 2 --on --k=v=w --low -1"
    )
    assert command.environment == {"A": "1", "B": "x y"}
    assert command.flags["--max-num-seqs"] == ("8",)
    assert command.numbers("--sizes") == (1, 2)
    assert command.flags["--on"] == ()
    assert command.value("--absent", "--k") == "v=w"
    assert command.number("--low") == -1
    assert command.number("--absent") is None
    assert command.numbers("--absent") is None


@given(
    st.dictionaries(st.from_regex(r"--[a-z]{2,8}", fullmatch=True), st.text(min_size=1).filter(lambda t: t[0] != "-"))
)
def test_quoted_values_arrive_as_they_were(flags: dict[str, str]) -> None:
    words = [word for flag, value in flags.items() for word in (flag, value)]
    expected = {flag: (value,) for flag, value in flags.items()}
    assert read_command(words).flags == expected
    assert read_command(shlex.join(words)).flags == {
        flag: (value.replace("\\\n", " "),) for flag, (value,) in expected.items()
    }


def test_unbalanced_quotes_are_told() -> None:
    with pytest.raises(InvalidInput, match="balance its quotes"):
        read_command("--a 'b")


@pytest.mark.parametrize("text", ["--a 1 --b 3 --a 2 --c 1", "--a=1 --b=3 --a 4 --a 2 --c=1"])
def test_of_a_flag_given_twice_the_last_counts_as_for_argparse(text: str) -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--a", "--b", "--c"):
        parser.add_argument(flag)
    command = read_command(text)
    assert {flag.strip("-"): value for flag, (value,) in command.flags.items()} == vars(
        parser.parse_args(text.split())
    )
    assert command.notes() == ["--a is given more than once: the last one, '2', counts"]


def test_values_of_the_wrong_kind() -> None:
    command = read_command("--n x --pair 1 2 --none --list 1 b")
    for read, rule in (
        (lambda: command.number("--n"), "--n is 'x'; it should be a whole number"),
        (lambda: command.number("--n", kind=float), "it should be a number"),
        (lambda: command.value("--pair"), "--pair has 2 values; give it one"),
        (lambda: command.value("--none"), "--none has 0 values"),
        (lambda: command.numbers("--list"), "--list is '1 b'; it should be whole numbers"),
    ):
        with pytest.raises(InvalidInput, match=rule):
            read()
