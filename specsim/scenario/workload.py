"""What arrives: drawn from laws, or replayed from a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from specsim.interop.traces import read_trace
from specsim.scenario.part import Part
from specsim.workload.arrivals import Arrivals, ClosedLoopArrivals
from specsim.workload.lengths import Lengths
from specsim.workload.request import RequestSpec


class SyntheticWorkload(Part):
    """Requests drawn from arrival and length laws."""

    kind: Literal["synthetic"] = "synthetic"
    arrivals: Arrivals
    lengths: Lengths
    requests: PositiveInt

    def draw(self, seed: int) -> list[RequestSpec]:
        """The requests; arrival_s is None in a closed loop. Arrivals and lengths have generators of their own."""
        arrivals, lengths = np.random.SeedSequence(seed).spawn(2)
        prompts, outputs = self.lengths.draw(self.requests, np.random.default_rng(lengths))
        if isinstance(self.arrivals, ClosedLoopArrivals):
            times: list[float | None] = [None] * self.requests
        else:
            times = self.arrivals.times_s(self.requests, np.random.default_rng(arrivals)).tolist()
        columns = zip(times, prompts.tolist(), outputs.tolist(), strict=True)
        return [RequestSpec(i, time, prompt, output) for i, (time, prompt, output) in enumerate(columns)]

    def mean_lengths(self) -> tuple[float, float]:
        """Mean prompt and output tokens."""
        return self.lengths.means()


class TraceWorkload(Part):
    """Requests replayed from a file; ``requests`` keeps only the first ones."""

    kind: Literal["trace"] = "trace"
    path: Path
    requests: PositiveInt | None = None

    def draw(self, seed: int) -> list[RequestSpec]:
        requests: list[RequestSpec] = read_trace(self.path)
        return requests[: self.requests]

    def mean_lengths(self) -> tuple[float, float]:
        requests = self.draw(0)
        prompt = float(np.mean([r.prompt_tokens for r in requests]))
        return prompt, float(np.mean([r.output_tokens for r in requests]))


Workload = Annotated[SyntheticWorkload | TraceWorkload, Field(discriminator="kind")]
