"""Prompts to record acceptance on, and the K-free traces recorded: a file a drafter, readable in a diff.

JSON lines: a head with the cap and what was recorded, then a request a line. A scenario replays such a file with
``acceptance: {kind: trace, path: FILE}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import TraceAcceptance


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to continue; ``domain`` is what it was filed under, None where it was not."""

    name: str
    text: str
    domain: str | None = None


class RecordedRequest(BaseModel):
    """``runs[i]``: drafts right in an unlimited round started when i + 1 output tokens stood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    domain: str | None = None
    runs: tuple[NonNegativeInt, ...] = Field(min_length=1)


class RecordedTraces(BaseModel):
    """K-free runs of one drafter at one temperature of the target; ``cap`` is the longest draft that was tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drafter: str
    target: str
    temperature: NonNegativeFloat
    seed: int
    prompt_tokens: PositiveInt
    cap: PositiveInt
    requests: tuple[RecordedRequest, ...] = Field(min_length=1)

    def trace(self, wanted: Callable[[RecordedRequest], bool] | None = None) -> TraceAcceptance:
        """The wanted requests, in order, as a law. Raises InvalidInput if none is wanted."""
        runs = tuple(one.runs for one in self.requests if wanted is None or wanted(one))
        if not runs:
            raise InvalidInput(f"no request of {self.drafter} is wanted; choose among those that were recorded")
        return TraceAcceptance(runs=runs, cap=self.cap, order="listed")

    def write(self, path: Path) -> None:
        """Write the file; its folder is made if need be."""
        lines = [self.model_dump(exclude={"requests"})]
        lines += [one.model_dump(exclude_none=True) for one in self.requests]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def read_traces(path: Path) -> RecordedTraces:
    """What ``write`` wrote. Raises InvalidInput for any other file."""
    lines = _json_lines(path, "a file of recorded acceptance traces")
    try:
        return RecordedTraces.model_validate({**lines[0], "requests": lines[1:]})
    except (ValidationError, IndexError) as error:
        where = ""
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = f": {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InvalidInput(
            f"{path} holds no recorded acceptance traces{where}; write one with specsim profile acceptance"
        ) from None


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a JSON-lines file (``prompt``, perhaps ``domain`` and ``name``), or of a folder of .txt files.

    In a folder a file is a prompt, and its sub-folder, if it has one, the domain. Raises InvalidInput without any.
    """
    if path.is_dir():
        found = [_text_file(path, file) for file in sorted(path.rglob("*.txt"))]
    else:
        found = [_prompt(path, number, row) for number, row in enumerate(_json_lines(path, "prompts"))]
    if not found:
        raise InvalidInput(f"{path} holds no prompt; give .txt files in a folder, or JSON lines with a prompt each")
    return found


def _text_file(folder: Path, file: Path) -> Prompt:
    place = file.relative_to(folder)
    domain = place.parts[0] if len(place.parts) > 1 else None
    try:
        return Prompt(place.with_suffix("").as_posix(), file.read_text(encoding="utf-8"), domain)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {file}: {error}; a prompt is a text in UTF-8") from None


def _prompt(path: Path, number: int, row: dict[str, object]) -> Prompt:
    text, domain = row.get("prompt"), row.get("domain")
    if not isinstance(text, str) or not (domain is None or isinstance(domain, str)):
        raise InvalidInput(f'{path}: entry {number + 1} is no prompt; write {{"prompt": "...", "domain": "..."}}')
    return Prompt(str(row.get("name", number)), text, domain)


def _json_lines(path: Path, what: str) -> list[dict[str, object]]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}; give {what}") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON lines: {error}; give {what}") from None
    if not all(isinstance(line, dict) for line in lines):
        raise InvalidInput(f"{path}: a line is no JSON object; give {what}")
    return lines
