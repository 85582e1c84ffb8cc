"""``specsim profile steps`` and ``plan``: a real engine's whole steps, measured here or planned for elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.groups import OptionGroup, spread
from specsim.cli.lists import COUNTS, WholeNumbers, list_option, whole_numbers
from specsim.cli.options import JsonOption, messages, print_json, progress_of
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.profiles.steps import StepGrid

GRIDS = ("cpu", "cuda", "quick")


@dataclass(frozen=True, slots=True)
class DrafterOptions(OptionGroup):
    """What drafts in the steps that are timed."""

    draft: Annotated[Path | None, typer.Option(help="A draft model's folder; default: prompt look-up.")] = None
    look_up: Annotated[bool, typer.Option("--look-up", help="Prompt look-up too, beside the draft model.")] = False
    draft_name: Annotated[str | None, typer.Option(help="Its name in scenarios; default: its folder's.")] = None

    def drafters(self) -> dict[str, Path | None]:
        """Folders of draft models by name; None: prompt look-up."""
        from specsim.profiling.steps.setup import LOOK_UP

        if self.draft is None:
            return dict(LOOK_UP)
        return {self.draft_name or self.draft.name: self.draft, **(LOOK_UP if self.look_up else {})}


@dataclass(frozen=True, slots=True)
class GridOptions(OptionGroup):
    """Which steps are timed."""

    quick: Annotated[bool, typer.Option(help="A coarse grid, for a first look.")] = False
    sequences: Annotated[
        WholeNumbers | None,
        list_option(COUNTS, "The grid's own: sequences of a step, as 1,4,16."),
    ] = None
    draft_lengths: Annotated[
        WholeNumbers | None,
        list_option(whole_numbers(least=0), "Likewise: drafts of a sequence, 0 for none."),
    ] = None
    kv_lens: Annotated[WholeNumbers | None, list_option(COUNTS, "Likewise: KV lengths.")] = None
    prefills: Annotated[WholeNumbers | None, list_option(COUNTS, "Likewise: lengths of prompt chunks.")] = None

    def grid(self, device: str) -> StepGrid:
        """The device's grid, or the quick one, with the axes that were given in place of its own."""
        from specsim.profiles.steps import CPU_GRID, CUDA_GRID, QUICK_GRID

        grid = QUICK_GRID if self.quick else CPU_GRID if device == "cpu" else CUDA_GRID
        given = {name: getattr(self, name) for name in ("sequences", "draft_lengths", "kv_lens", "prefills")}
        axes = {name: tuple(sorted(set(axis))) for name, axis in given.items() if axis is not None}
        beside = {"sequences_beside_prefills": axes["sequences"][-1:]} if "sequences" in axes else {}
        return replace(grid, **axes, **beside)


@spread
def steps(
    vllm: Annotated[Path, typer.Option(help="vLLM's virtual environment, or its Python.")],
    model: Annotated[Path, typer.Option(help="A Hugging Face model folder; only its config.json is read.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    drafting: DrafterOptions,
    axes: GridOptions,
    name: Annotated[str | None, typer.Option(help="The model's name in scenarios; default: its folder's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda, whichever vLLM was built for.")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="bfloat16, float16 or float32; default: what the device has instructions for.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Hardware preset these measurements stand for.")] = None,
    repeats: Annotated[int, typer.Option(help="Visits of every kind of step.", min=1)] = 5,
    minutes: Annotated[float, typer.Option(help="Stop after this long; the same command goes on.", min=0.1)] = 8.0,
) -> None:
    """Time whole steps of vLLM's engine; Ctrl-C stops, and the same command goes on where it stopped."""
    from specsim.profiling.steps.engine_steps import measure_steps

    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"--device {device!r} is neither cpu nor cuda; choose one")
    with progress_of("steps") as progress:
        complete = measure_steps(
            vllm, model, out, name=name, device=device, dtype=dtype, drafters=drafting.drafters(), gpu=gpu,
            grid=axes.grid(device), repeats=repeats, minutes=minutes, progress=progress,
        )  # fmt: skip
    messages().print(f"wrote {out}" if complete else f"wrote {out}, not complete; run the same command to go on")


def plan(
    engine: Annotated[str, typer.Option("--for", help="The tool that will run the plan: vllm.")] = "vllm",
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("cases.json"),
    grid: Annotated[str, typer.Option(help="cpu, cuda or quick.")] = "cuda",
    as_json: JsonOption = False,
) -> None:
    """Write the case file that vllm bench forward measures on another machine."""
    from specsim.interop.vllm_bench import write_cases
    from specsim.profiles.steps import CPU_GRID, CUDA_GRID, QUICK_GRID

    if engine != "vllm":
        raise InvalidInput(f"--for {engine!r}: only vllm takes a plan; write --for vllm")
    if grid not in GRIDS:
        raise InvalidInput(f"--grid {grid!r} is not one of {', '.join(GRIDS)}; choose one")
    shapes = {"cpu": CPU_GRID, "cuda": CUDA_GRID, "quick": QUICK_GRID}[grid].shapes()
    count = write_cases(out, shapes)
    run = f"vllm bench forward --model MODEL --shapes {out} --kv-len-jitter 0 --output-json forward.json"
    if as_json:
        print_json({"path": str(out), "cases": count, "command": run})
    else:
        messages().print(f"wrote {out} with {count} cases; run: {run}")


def import_steps(
    results: Annotated[Path, typer.Argument(help="What vllm bench forward wrote with --output-json.")],
    model: Annotated[str, typer.Option(help="The model's name in scenarios, for instance Llama-3.1-8B.")],
    gpu: Annotated[str, typer.Option(help="Hardware preset it ran on.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    drafter: Annotated[str, typer.Option(help="The drafter's name in scenarios; none without one.")] = "none",
    target_only: Annotated[
        Path | None, typer.Option(help="A second file, made with --exclude-drafter: tells drafting apart.")
    ] = None,
    version: Annotated[str, typer.Option(help="vLLM's version.")] = "unknown",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
) -> None:
    """Make a profile of whole steps from vllm bench forward's results, for scenarios with cost.source: steps."""
    import datetime

    from specsim.interop.vllm_bench import read_forward
    from specsim.profiles.schema import Ceilings, ProfileHeader
    from specsim.profiles.store import write_profile
    from specsim.specs.catalog import load_hardware

    hardware = load_hardware(gpu)
    found = read_forward(results, dtype=dtype, kernel=f"vllm {version}/{model}/{drafter}", without_drafter=target_only)
    header = ProfileHeader(
        schema=1, gpu=hardware.name, device_name=hardware.name, device="cuda", threads=1, clocks="unknown",
        driver="unknown", versions={"vllm": version}, date=datetime.date.today().isoformat(),
        attribution="vllm bench forward; no host, sampling or rejection time", backend=f"vllm {version}",
        last_level_cache_bytes=hardware.last_level_cache_bytes, memory_bytes=int(hardware.memory_bytes),
        launch_s=hardware.launch_s, importer="vllm bench forward",
        ceilings=Ceilings(copy_bytes_per_s=hardware.bandwidth_bytes_per_s, flops_per_s=hardware.flops_per_s),
    )  # fmt: skip
    write_profile(out, header, {"steps": found.rows})
    left_out = f"; left out, of mixed query lengths: {', '.join(found.left_out)}" if found.left_out else ""
    messages().print(f"wrote {out} with {len(found.rows)} rows{left_out}")
