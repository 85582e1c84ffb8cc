"""A trace in a scenario: where it is, how to read it, what becomes of long requests; its lengths as a law."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from specsim.errors import InvalidInput
from specsim.interop.traces import TimeUnit, Trace, TraceFormat, read_trace
from specsim.named_files import file_named
from specsim.validated import Validated
from specsim.workload.lengths import (
    EmpiricalLengths,
    FixedLengths,
    Length,
    LengthLaw,
    LognormalLengths,
    Tokens,
    draw_pairs,
)


class TraceFile(Validated):
    """A trace and how to read it. ``longer``: what becomes of requests above a maximum, capped or dropped."""

    path: Annotated[Path, AfterValidator(file_named)]
    columns: TraceFormat | None = None
    time_unit: TimeUnit | None = None
    max_prompt_tokens: Length | None = None
    max_output_tokens: Length | None = None
    longer: Literal["cap", "drop"] = "cap"

    def content_sha256(self) -> str:
        """Hash of the file. Raises OSError where it cannot be read."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def trace(self) -> Trace:
        """The file's requests within the maxima. Raises InvalidInput for a bad file, or if no request is left."""
        try:
            status = self.path.stat()
            version = (status.st_mtime_ns, status.st_size)
        except OSError:
            version = (0, 0)  # the reader tells what is wrong
        trace = _read_once(self.path, version, self.columns, self.time_unit)
        requests, limits = trace.requests, (self.max_prompt_tokens, self.max_output_tokens)
        if limits == (None, None):
            return trace
        most_prompt, most_output = (limit or np.iinfo(np.int32).max for limit in limits)
        if self.longer == "drop":
            fits = (requests.prompt_tokens <= most_prompt) & (requests.output_tokens <= most_output)
            if not fits.any():
                raise InvalidInput(f"trace {self.path}: no request within max_prompt_tokens and max_output_tokens")
            return replace(trace, requests=requests.take(np.flatnonzero(fits)))
        prompts = np.minimum(requests.prompt_tokens, most_prompt).astype(np.int32)
        outputs = np.minimum(requests.output_tokens, most_output).astype(np.int32)
        prefixes = None if requests.prefixes is None else requests.prefixes.shortened(prompts)
        capped = replace(requests, prompt_tokens=prompts, output_tokens=outputs, prefixes=prefixes)
        return replace(trace, requests=capped)


@lru_cache(maxsize=4)
def _read_once(
    path: Path, version: tuple[int, int], columns: TraceFormat | None, time_unit: TimeUnit | None
) -> Trace:  # a scenario is asked for its requests several times
    return read_trace(path, columns=columns, time_unit=time_unit)


class TraceLengths(TraceFile, LengthLaw):
    """The (prompt, output) pairs of a trace, drawn with replacement; its arrivals are not looked at."""

    kind: Literal["trace"] = "trace"

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        requests = self.trace().requests
        return draw_pairs(np.stack((requests.prompt_tokens, requests.output_tokens), axis=1), count, generator)

    def means(self) -> tuple[float, float]:
        requests = self.trace().requests
        return float(requests.prompt_tokens.mean()), float(requests.output_tokens.mean())


ScenarioLengths = Annotated[
    FixedLengths | LognormalLengths | EmpiricalLengths | TraceLengths, Field(discriminator="kind")
]
