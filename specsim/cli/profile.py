"""``specsim profile``: measure this machine's kernels, import, show, check and merge profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli import profile_acceptance, profile_compose, profile_now, profile_steps
from specsim.cli.options import JsonOption, console, messages, print_json, progress_of, require_torch
from specsim.cli.verb import Verb
from specsim.errors import InvalidInput, unknown_name

if TYPE_CHECKING:
    from rich.table import Table

    from specsim.profiles.schema import HeldoutError
    from specsim.profiles.store import Profile

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure kernels; import, check, merge profiles.")
app.command("steps", cls=Verb)(profile_steps.steps)
app.command("plan", cls=Verb)(profile_steps.plan)
app.command("import-steps", cls=Verb)(profile_steps.import_steps)
app.command("compose", cls=Verb)(profile_compose.compose)
app.command("acceptance", cls=Verb)(profile_acceptance.acceptance)
app.command("now", cls=Verb)(profile_now.now)

MOST_DRIFT = 0.3  # of the fixed probe over a sweep, from which on a reader is warned

NameArgument = Annotated[str, typer.Argument(help="A profile's name or folder.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Folder of AIConfigurator's systems; default: the installed package's.")
]


@app.command("run", cls=Verb)
def run(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="bfloat16, float16 or float32; default: what the device has instructions for.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default profiles/<device name>.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Hardware preset these measurements stand for.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after this long; the same command goes on.")] = 8.0,
    quick: Annotated[bool, typer.Option(help="A coarse grid, for a first look.")] = False,
) -> None:
    """Time kernels; Ctrl-C stops, and the same command goes on where it stopped."""
    require_torch()
    from specsim.profiling.sweep.run import run_sweep

    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"--device {device!r} is neither cpu nor cuda; choose one")
    with progress_of("profile", counted=False) as progress:
        folder = run_sweep(
            device, dtype, out, gpu=gpu, quick=quick, minutes=minutes, progress=progress, warn=messages().print
        )
    messages().print(f"wrote {folder}")
    show(f"{folder}/")


@app.command("import", cls=Verb)
def import_(
    source: Annotated[str, typer.Argument(help="The project whose tables to read: aiconfigurator.")],
    system: Annotated[str, typer.Option(help="A system of its tables, for instance h200_sxm.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    backend: Annotated[str, typer.Option(help="Engine whose kernels were timed: vllm, sglang or trtllm.")] = "vllm",
    version: Annotated[str | None, typer.Option(help="The engine's version; default: the newest.")] = None,
    data: DataOption = None,
    gpu: Annotated[str | None, typer.Option(help="Hardware preset of this system; default: by its name.")] = None,
    rows: Annotated[int, typer.Option(help="Rows to keep, about; the others test and calibrate.", min=100)] = 10500,
    keep: Annotated[
        list[str] | None, typer.Option(help='Rows of one surface: "attention decode bfloat16=1300" (repeatable).')
    ] = None,
) -> None:
    """Make a compact profile of another project's measured tables, tested on rows that it does not keep."""
    from specsim.interop.aiconfigurator.profile import SEED, ceilings_of, header_of, plan_of, preset_of
    from specsim.interop.aiconfigurator.tables import data_folder, read_tables
    from specsim.profiles.store import write_profile
    from specsim.specs.catalog import load_hardware
    from specsim.surfaces.selection import select_rows

    if source != "aiconfigurator":
        raise unknown_name("source", source, ["aiconfigurator"])
    plan = plan_of(rows, _counts(keep or []))
    hardware = load_hardware(gpu or preset_of(system))
    ceilings = ceilings_of(hardware)
    folder = data_folder(data)
    tables = read_tables(folder, system, backend, version, ceilings)
    found = select_rows(
        tables.rows,
        ceilings,
        plan,
        tables.label,
        SEED,
        progress=lambda name: messages().print(f"choosing {name}"),
    )
    header = header_of(tables, hardware, found.heldout)
    write_profile(out, header, found.rows)
    read = sum(len(members) for members in tables.rows.values())
    messages().print(
        f"wrote {out}: kept {sum(len(kept) for kept in found.rows.values())} of {read} rows; rejected "
        f"{sum(tables.rejected.values())} that cannot be true; skipped {sum(tables.skipped.values())} of formats, "
        "masks or layouts that specsim has none of"
    )
    show(f"{out}/")


@app.command("show", cls=Verb)
def show(
    name: Annotated[str | None, typer.Argument(help="A profile's name or folder; none lists those shipped.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a profile holds, where it comes from, and how well it predicts shapes withheld from it."""
    from rich.table import Table

    from specsim.profiles.store import load_profile, profile_names
    from specsim.units import format_seconds

    if name is None:
        names = profile_names()
        print_json(names) if as_json else console().print("\n".join(names) or "no profiles are shipped")
        return
    profile = load_profile(name)
    header = profile.header
    if as_json:
        counts = {kind: len(rows) for kind, rows in profile.rows.items()}
        print_json({"name": profile.name, **header.model_dump(mode="json", by_alias=True), "rows": counts})
        return
    _print_header(profile)
    table = Table()
    for column in ("class", "rows", "shortest", "longest", "median spread"):
        table.add_column(column, justify="right")
    for kind, rows in profile.rows.items():
        if rows:
            times = sorted(row.median_s for row in rows)
            spreads = sorted(row.spread for row in rows if row.p10_s is not None)
            spread = f"{spreads[len(spreads) // 2]:.1%}" if spreads else "unknown"
            table.add_row(kind, str(len(rows)), format_seconds(times[0]), format_seconds(times[-1]), spread)
    console().print(table)
    if header.heldout_error:
        console().print(_errors(header.heldout_error))


@app.command("check", cls=Verb)
def check(
    name: NameArgument,
    source: Annotated[Path | None, typer.Option(help="Folder of AIConfigurator's systems it was made from.")] = None,
    against: Annotated[str | None, typer.Option(help="Another profile of the same hardware, to compare with.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Keep the errors found in the profile's header.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How well a profile predicts what it does not hold: levels withheld in turn, or a foreign table's test rows."""
    from specsim.profiles.store import load_profile, write_header
    from specsim.speculation.engine_steps import withheld_error
    from specsim.surfaces.heldout import by_levels, disagreement

    profile = load_profile(name)
    if against is not None:
        found = disagreement(profile, load_profile(against))
        title = f"{profile.name} against {against}: |ratio - 1| where both interpolate"
    elif source is not None:
        from specsim.interop.aiconfigurator.profile import check_against_tables

        found = check_against_tables(profile, source)
        title = f"{profile.name} on the test rows of its source"
    else:
        found = by_levels(profile)
        steps = withheld_error(profile.rows.get("steps", ()))
        found |= {} if steps is None else {"steps": steps}
        title = f"{profile.name}, every level of its shapes (of steps every second one) withheld in turn"
    if write and against is None:
        # The errors of test rows stay: withholding levels of what was kept says less.
        drawn = {key: error for key, error in profile.header.heldout_error.items() if error.seed is not None}
        errors = found if source is not None else found | drawn
        write_header(profile.folder, profile.header.model_copy(update={"heldout_error": drawn | errors}))
    if as_json:
        print_json({key: error.model_dump(mode="json", exclude_none=True) for key, error in found.items()})
        return
    console().print(title)
    console().print(_errors(found))


@app.command("merge", cls=Verb)
def merge(
    first: NameArgument,
    second: Annotated[str, typer.Argument(help="A profile of the same hardware that fills what the first lacks.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Put two profiles of one card into one, the first's kernel classes before the second's."""
    from specsim.profiles.store import load_profile, merged, write_profile

    one, other = load_profile(first), load_profile(second)
    for what, mine, its in (
        ("dtype", one.header.dtype, other.header.dtype),
        ("threads", one.header.threads, other.header.threads),
    ):
        if mine != its and one.header.importer is None and other.header.importer is None:
            raise InvalidInput(f"{first} has {what} {mine} and {second} has {its}; merge profiles measured alike")
    profile, lost = merged(one, other)
    write_profile(out, profile.header, profile.rows)
    counts = ", ".join(f"{kind} {count}" for kind, count in lost.items()) or "none"
    messages().print(f"wrote {out}; rows of {second} left out in favour of {first}: {counts}")


def _counts(given: list[str]) -> dict[str, int]:
    counts = {}
    for text in given:
        name, _, count = text.rpartition("=")
        if not name or not count.isdigit():
            raise InvalidInput(f'--keep {text!r} is not "surface=rows"; write for instance "gemm fp8=300"')
        counts[name] = int(count)
    return counts


def _print_header(profile: Profile) -> None:
    header, out = profile.header, console()
    out.print(f"[bold]{profile.name}[/bold]: {header.device_name} ({header.gpu}), {header.date}")
    out.print(f"source: {header.attribution}" + (f"; backend {header.backend}" if header.backend else ""))
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s {dtype}" for dtype, rate in header.ceilings.flops_per_s.items())
    out.print(f"ceilings: copy {header.ceilings.copy_bytes_per_s / 1e9:.1f} GB/s, {rates}")
    if header.importer:
        rejected = ", ".join(f"{kind} {count}" for kind, count in header.rejected_rows.items() if count)
        out.print(f"rejected rows: {rejected or 'none'}")
    if header.probe is not None and header.probe.after_s is not None:
        drift = header.probe.after_s / header.probe.before_s - 1
        remark = (
            "; the machine changed meanwhile: profile it again when it is quieter" if abs(drift) > MOST_DRIFT else ""
        )
        out.print(f"probe drift over the sweep: {drift:+.1%}{remark}")
    for note in header.notes:
        out.print(f"note: {note}")


def _errors(errors: dict[str, HeldoutError]) -> Table:
    from rich.table import Table

    table = Table()
    for column in ("kernels", "error: median", "p90", "n", "unseen", "90 % interval", "hold", "seed"):
        table.add_column(column, justify="left" if column == "kernels" else "right")
    for name, error in errors.items():
        covered = "-" if error.coverage is None else f"{error.coverage:.1%}"
        others = ("-" if value is None else str(value) for value in (error.unseen, error.seed))
        unseen, seed = others
        width = "-" if error.interval is None else f"±{error.interval:.0%}"
        table.add_row(name, f"{error.median:.1%}", f"{error.p90:.1%}", str(error.n), unseen, width, covered, seed)
    return table
