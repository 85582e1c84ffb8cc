"""A JSON file that holds one object, any fault told in one line."""

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
