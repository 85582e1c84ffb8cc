"""Every bundled technique under batching, beside what was published: ``python validation/studies/techniques/make.py``.

Writes README.md and techniques.csv in this folder. Takes a few minutes: each technique is also simulated.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from specsim.analytic.rounds import speedup_map
from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import assemble
from specsim.errors import InvalidInput, NoAnswer
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.specs.yaml_file import build
from specsim.speculation.footprint import program_budget
from specsim.speculation.program import DraftProgram, load_program, program_names
from specsim.units import GB

HERE = Path(__file__).resolve().parent
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHOWN = (1, 4, 16, 64, 256)
SIMULATED = (1, 16, 256)
PROMPT_TOKENS, OUTPUT_TOKENS = 512, 256
NEVER_BATCHED = ("kangaroo", "swift", "del", "hidden-transfer", "m2r2", "hamburger", "gsd", "chimera")


@dataclass(frozen=True, slots=True)
class Line:
    """One technique on one model and GPU."""

    program: DraftProgram
    map: SpeedupMap
    extra_gb: float
    simulated: dict[int, float]  # batch -> speed-up at the best k


def scenario(program: str | None, *, model: str, gpu: str, batch: int = 1, **settings: Any) -> Scenario:
    """As many clients as running sequences; ``settings``: fields of speculation, deployment or engine."""
    speculation: dict[str, Any] | None = None
    if program is not None:
        speculation = {"program": program}
        if load_program(program).needs_draft_model:
            speculation["draft_model"] = settings.pop("draft_model", "llama-3.2-1b")
        for field in ("max_draft_tokens", "policy"):
            if field in settings:
                speculation[field] = settings.pop(field)
    places = ("tensor_parallel", "weight_bits")
    data = {
        "schema": 1,
        "name": f"{program} on {model}",
        "model": model,
        "gpu": gpu,
        "deployment": {field: settings.pop(field) for field in places if field in settings},
        "engine": {"kind": "reference", "max_num_seqs": max(BATCHES)} | settings,
        "speculation": speculation,
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "closed_loop", "concurrency": batch},
            "lengths": {"kind": "fixed", "prompt_tokens": PROMPT_TOKENS, "output_tokens": OUTPUT_TOKENS},
            "requests": 4 * batch + 4,
        },
    }
    return build(Scenario, data, where=f"technique {program}")


def line(name: str) -> Line:
    """A technique on Llama-3.1-8B and an H200."""
    question = scenario(name, model="llama-3.1-8b", gpu="h200")
    chart = speedup_map(assemble(question), batches=BATCHES, decode_only=True)
    best = {choice.batch: choice.draft_tokens for choice in chart.best()}
    simulated = {batch: simulated_speedup(name, batch, best[batch]) for batch in SIMULATED}
    return Line(load_program(name), chart, extra_bytes(question) / GB, simulated)


def simulated_speedup(name: str, batch: int, draft_tokens: int) -> float:
    """Output tokens/s of the simulator over those without the technique, at this k or drafting at most so many."""
    machine = {"model": "llama-3.1-8b", "gpu": "h200", "batch": batch}
    settings: dict[str, Any] = {"policy": {"kind": "fixed", "k": draft_tokens}}
    if load_program(name).stop is not None and draft_tokens:
        settings = {"max_draft_tokens": draft_tokens}
    with_it, without = (
        float(simulate(assemble(one)).summary()["output_throughput"])
        for one in (scenario(name, **machine, **settings), scenario(None, **machine))
    )
    return with_it / without


def extra_bytes(question: Scenario) -> float:
    """GPU memory that the technique takes beside the target and its cache."""
    speculation = question.speculation
    assert speculation is not None
    place = question.gpu, question.deployment, question.engine
    without = program_budget(load_program("none"), question.model, None, *place, 0)
    longest = speculation.max_draft_tokens
    loaded = program_budget(speculation.program, question.model, speculation.draft_model, *place, longest)
    return without.kv - loaded.kv


def techniques() -> Iterator[Line]:
    for name in program_names():
        if name != "none":
            print(name, file=sys.stderr)
            yield line(name)


def by_batch(lines: list[Line]) -> list[str]:
    """The table of speed-ups by batch."""
    head = ["technique", "acceptance", "AL at batch 1", *(f"batch {b}" for b in SHOWN), "break-even", "memory, GB"]
    head += [f"simulated {b}" for b in SIMULATED]
    rows = [head, ["---"] * len(head)]
    for one in lines:
        cells = {choice.batch: choice for choice in one.map.best()}
        law = one.program.acceptance
        first = one.map.cell(1, cells[1].draft_tokens)
        name = f"**{one.program.name}**" if one.program.name in NEVER_BATCHED else one.program.name
        limit = one.map.break_even_batch()
        even = f"over {limit}" if one.map.never_breaks_even() else str(limit or "none")
        even = even if one.program.drafts else "-"
        rows.append(
            [
                name + ("" if one.program.lossless else " †"),
                "-" if law is None else law.basis,
                f"{first.tokens_per_round:.2f}",
                *(f"{cells[b].speedup:.2f} ({cells[b].draft_tokens})" for b in SHOWN),
                even,
                f"{one.extra_gb:.1f}",
                *(f"{one.simulated[b]:.2f}" for b in SIMULATED),
            ]
        )
    return ["| " + " | ".join(row) + " |" for row in rows]


def agreement(lines: list[Line]) -> str:
    """How far the simulator is from the closed form."""
    parts = []
    for batch in SIMULATED:
        best = [next(choice for choice in one.map.best() if choice.batch == batch) for one in lines]
        gaps = [one.simulated[batch] / choice.speedup - 1 for one, choice in zip(lines, best, strict=True)]
        parts.append(f"{median(gaps):+.1%} (from {min(gaps):+.0%} to {max(gaps):+.0%}) at batch {batch}")
    return "Simulated over predicted speed-up, median over techniques: " + ", ".join(parts) + "."


def judged(rows: list[str]) -> str:
    """How far the cost model alone is from what was published."""
    cells = [[cell.strip() for cell in row.split("|")] for row in rows[2:]]
    own, same = ([float(row[column]) for row in cells if row[column] != "-"] for column in (6, 9))
    with_their = [float(row[6]) for row in cells if row[9] != "-"]
    return (
        f"Ours over published, median: {median(own):.2f} over all {len(own)} rows; of the {len(same)} rows with a "
        f"measured acceptance length {median(with_their):.2f} with the preset's and {median(same):.2f} with theirs, "
        f"{sum(abs(ratio - 1) <= 0.15 for ratio in same)} of them within 15 %."
    )


def beside_published() -> list[str]:
    """Published speed-ups and ours under the same conditions."""
    head = [
        "technique",
        "model, GPU",
        "batch",
        "published",
        "ours (k)",
        "ratio",
        "acceptance",
        "with their AL",
        "ratio",
    ]
    head += ["conditions", "source"]
    rows = [head, ["---"] * len(head)]
    for case in yaml.safe_load((HERE / "published.yaml").read_text()):
        settings = dict(case.get("settings", {}))
        if case["stack"] == "eager":
            settings["graph_sizes"] = []
        try:
            question = scenario(case["technique"], model=case["model"], gpu=case["gpu"], **settings)
            chart = speedup_map(assemble(question), batches=sorted(case["speedup"]), decode_only=True)
        except (InvalidInput, NoAnswer) as error:
            raise SystemExit(f"published.yaml, {case['technique']} on {case['model']}: {error}") from None
        for batch, published in case["speedup"].items():
            rows.append(published_row(case, chart, batch, published))
    return ["| " + " | ".join(row) + " |" for row in rows]


def published_row(case: dict[str, Any], chart: SpeedupMap, batch: int, published: float) -> list[str]:
    """At the largest k, which is the one that the source ran; a stop rule of the technique is priced."""
    program, length = load_program(case["technique"]), case.get("acceptance_length")
    k = max(cell.draft_tokens for cell in chart.cells)
    cell = chart.cell(batch, k)
    same = None if length is None else length * cell.speedup / cell.tokens_per_round
    gpu = case["gpu"] + ("" if case.get("gpu_stated", True) else " (not stated)")
    basis = program.acceptance.basis if program.acceptance else "-"
    return [
        case["technique"],
        f"{case['model']}, {gpu}",
        f"{batch}",
        f"{published:.2f}",
        f"{cell.speedup:.2f} ({k})",
        f"{cell.speedup / published:.2f}",
        basis,
        "-" if same is None else f"{same:.2f}",
        "-" if same is None else f"{same / published:.2f}",
        case["conditions"],
        case["source"],
    ]


def write_csv(lines: list[Line]) -> None:
    """All batches and draft lengths."""
    with (HERE / "techniques.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["technique", "batch", "draft_tokens", "tokens_per_round", "round_s", "speedup", "source"])
        for one in lines:
            for c in one.map.cells:
                numbers = (f"{c.tokens_per_round:.4g}", f"{c.round_s:.4g}", f"{c.speedup:.4g}")
                writer.writerow([one.program.name, c.batch, c.draft_tokens, *numbers, c.source])


def run() -> None:
    lines = list(techniques())
    write_csv(lines)
    text = (HERE / "page.md").read_text()
    published = beside_published()
    tables = {
        "by batch": by_batch(lines),
        "agreement": [agreement(lines)],
        "published": published,
        "judged": [judged(published)],
    }
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(table))
    (HERE / "README.md").write_text(text)


if __name__ == "__main__":
    run()
