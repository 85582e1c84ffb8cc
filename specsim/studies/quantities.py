"""What a study may have measured: the names of a figure's column, and which way of asking predicts it.

Served figures bear the names of ``vllm bench serve``, which are those of ``RunResult.summary``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Way = Literal["step", "map", "served", "memory"]
STATISTICS = ("mean", "median", "p90", "p95", "p99")
SPEEDUP = "speedup"


@dataclass(frozen=True, slots=True)
class Quantity:
    """``way``: what is asked for it. ``label``: its row in a table.

    ``load_power``: 1 where doubling the load of an idle machine doubles it, 0 where it does not move.
    ``length_power``: what a round that costs no more than a plain step would multiply it by is the acceptance length
    to this power.
    """

    name: str
    way: Way
    label: str
    load_power: int = 0
    length_power: int = 0

    @property
    def accepts(self) -> bool:
        """Whether it depends on how many drafts are accepted."""
        return self.way in ("map", "served")


def _times(name: str, label: str, length_power: int) -> dict[str, Quantity]:
    shown = {"median": "p50"}
    return {
        f"{statistic}_{name}_ms": Quantity(
            f"{statistic}_{name}_ms", "served", f"{label} {shown.get(statistic, statistic)}", 0, length_power
        )
        for statistic in STATISTICS
    }


# ITL is the gap between streamed chunks, thus a whole round; TPOT is the time of one token.
QUANTITIES: dict[str, Quantity] = {
    SPEEDUP: Quantity(SPEEDUP, "map", "speed-up", 0, 1),
    "output_throughput": Quantity("output_throughput", "served", "output tokens/s", 1, 1),
    "total_token_throughput": Quantity("total_token_throughput", "served", "all tokens/s", 1, 1),
    **_times("itl", "ITL", 0),
    **_times("tpot", "TPOT", -1),
    **_times("ttft", "TTFT", 0),
    **_times("e2el", "E2E", -1),
    "kv_tokens": Quantity("kv_tokens", "memory", "KV tokens"),
    "pass_ms": Quantity("pass_ms", "step", "target pass"),
    "forward_ms": Quantity("forward_ms", "step", "target pass"),
    "step_ms": Quantity("step_ms", "step", "step"),
    "attention_ms": Quantity("attention_ms", "step", "attention"),
}
LABELS = tuple(dict.fromkeys(quantity.label for quantity in QUANTITIES.values()))
