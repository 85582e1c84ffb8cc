"""A JSON file that holds one object, or one a line; any fault told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput


def read_json_object(file: Path, what: str) -> dict[str, Any]:
    """The object in a file; ``what`` names the file wanted (``a draft head's config.json``). Raises InvalidInput."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {file}; give the path of {what}") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {file}: {error}; give the path of {what}") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{file} holds a {type(content).__name__}; {what} is a JSON object")
    return content


def read_json_lines(file: Path, what: str) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; ``what`` names the file wanted. Raises InvalidInput."""
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}; give {what}") from None
    except ValueError as error:
        raise InvalidInput(f"{file} is not JSON lines: {error}; give {what}") from None
    if not all(isinstance(line, dict) for line in lines):
        raise InvalidInput(f"{file}: a line is no JSON object; give {what}")
    return lines
