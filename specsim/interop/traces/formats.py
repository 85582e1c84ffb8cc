"""Which columns a trace has and what they count: the known formats as data, and the model for any other."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, PositiveInt

from specsim.validated import Validated

TimeUnit = Literal["s", "ms", "us", "ns", "wall_clock"]
TICKS_PER_S: dict[TimeUnit, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9, "wall_clock": 1e6}


class TraceFormat(Validated):
    """Column names of a trace, and what they count.

    ``marks``: further columns that tell this format from others. ``arrival_optional``: a file without that column
    holds lengths only. ``starts_at_zero``: the clock is arbitrary, so the first arrival becomes 0.
    ``failed_have_no_output``: rows of 0 output tokens are failed requests, left out and counted.
    """

    model_config = ConfigDict(populate_by_name=True)

    prompt: str
    output: str
    arrival: str | None = None
    arrival_optional: bool = False
    time_unit: TimeUnit = "s"
    starts_at_zero: bool = True
    request_class: str | None = Field(None, alias="class")
    hashes: str | None = None
    hash_block_tokens: PositiveInt = 512
    marks: tuple[str, ...] = ()
    failed_have_no_output: bool = False

    def required(self) -> tuple[str, ...]:
        """Columns that a file of this format has."""
        arrival = () if self.arrival is None or self.arrival_optional else (self.arrival,)
        return (*arrival, self.prompt, self.output, *self.marks)


# In the order in which they are tried: Bailian's columns are Mooncake's and more, in other units.
FORMATS = {
    "azure": TraceFormat(
        arrival="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens", time_unit="wall_clock",
    ),
    "bailian": TraceFormat(
        arrival="timestamp", prompt="input_length", output="output_length", request_class="type", hashes="hash_ids",
        hash_block_tokens=16, marks=("chat_id",),
    ),
    "mooncake": TraceFormat(
        arrival="timestamp", prompt="input_length", output="output_length", time_unit="ms", hashes="hash_ids",
    ),
    "burstgpt": TraceFormat(
        arrival="Timestamp", prompt="Request tokens", output="Response tokens", request_class="Log Type",
        failed_have_no_output=True,
    ),
    "vidur": TraceFormat(
        arrival="arrived_at", arrival_optional=True, prompt="num_prefill_tokens", output="num_decode_tokens",
    ),
    "plain": TraceFormat(
        arrival="arrival_s", arrival_optional=True, prompt="prompt_tokens", output="output_tokens",
        starts_at_zero=False, request_class="acceptance_class", hashes="prefix_hashes",
    ),
}  # fmt: skip
