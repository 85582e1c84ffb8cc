"""JSON as RFC 8259 has it: finite numbers, bounded depth; any fault told in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from specsim.errors import InvalidInput, kind_of
from specsim.text_file import read_text

_BLANKS = re.compile(r"\s*")


def parse_json(text: str) -> Any:
    """The document. Raises ValueError with one line: not JSON, NaN or infinity, too deep."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("brackets within brackets too deep to be read") from None


def parse_json_object(text: str, where: str, advice: str) -> dict[str, Any]:
    """The object that a text is; ``where`` names the text and ``advice`` says what to give. Raises InvalidInput."""
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InvalidInput(f"{where} is not JSON: {error}; {advice}") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{where} holds {kind_of(content)}, no JSON object; {advice}")
    return content


def read_json_object(file: Path, what: str) -> dict[str, Any]:
    """The object in a file; ``what`` names the file wanted (``a draft head's config.json``). Raises InvalidInput."""
    return parse_json_object(read_text(file, what), str(file), f"give the path of {what}")


def read_json_lines(file: Path, what: str) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; ``what`` names the file wanted. Raises InvalidInput."""
    lines = enumerate(read_text(file, what).splitlines(), 1)
    return [
        parse_json_object(line, f"{file}, line {number}", f"give {what}") for number, line in lines if line.strip()
    ]


def read_json_documents(file: Path, what: str) -> list[dict[str, Any]]:
    """The objects of a file, however it was written: one, a list of them, one a line, or one after the other.

    NaN and Infinity, which Python's programs write where they measured nothing, count as null.

    Raises InvalidInput: not JSON, something else than objects, or nothing.
    """
    text = read_text(file, what)
    found: list[dict[str, Any]] = []
    for number, document in _documents(text, file, what):
        for one in document if isinstance(document, list) else [document]:
            if not isinstance(one, dict):
                raise InvalidInput(f"{file}, line {number}: {kind_of(one)} where a JSON object belongs")
            found.append(one)
    if not found:
        raise InvalidInput(f"{file} is empty; give {what}")
    return found


def _documents(text: str, file: Path, what: str) -> Iterator[tuple[int, Any]]:
    """(line, document), in order."""
    decoder = json.JSONDecoder(parse_constant=lambda name: None, parse_float=_finite)
    line, seen, position = 1, 0, _after_blanks(text, 0)
    while position < len(text):
        line, seen = line + text.count("\n", seen, position), position
        try:
            document, end = decoder.raw_decode(text, position)
        except RecursionError:
            raise InvalidInput(f"{file}, line {line}: brackets too deep to be read; give {what}") from None
        except ValueError as error:
            raise InvalidInput(f"{file}, line {line}: not JSON: {error}; give {what} as it was written") from None
        yield line, document
        position = _after_blanks(text, end)


def _after_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return position if match is None else match.end()


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is larger than any float64")
    return number
