"""K-free acceptance traces as recorded: a file a drafter, readable in a diff.

JSON lines: a head with the cap and what was recorded, then a request a line. A scenario replays such a file with
``acceptance: {kind: trace, path: FILE}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from specsim.errors import InvalidInput
from specsim.json_file import read_json_lines
from specsim.kept_files import replace_text
from specsim.speculation.acceptance import TraceAcceptance
from specsim.validated import Validated


class RecordedRequest(Validated):
    """``runs[i]``: drafts right in an unlimited round started when i + 1 output tokens stood."""

    name: str
    domain: str | None = None
    runs: tuple[NonNegativeInt, ...] = Field(min_length=1)


class RecordedTraces(Validated):
    """K-free runs of one drafter at one temperature of the target; ``cap`` is the longest draft that was tried."""

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
        replace_text(path, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def read_traces(path: Path) -> RecordedTraces:
    """What ``write`` wrote. Raises InvalidInput for any other file."""
    lines = read_json_lines(path, "a file of recorded acceptance traces")
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
