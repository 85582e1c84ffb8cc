"""``specsim systems``: the techniques known, and what one of them does, costs and rests on."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from specsim.cli.options import JsonOption, console, print_json

if TYPE_CHECKING:
    from specsim.specs.model import ModelSpec
    from specsim.speculation.program import DraftProgram


def systems(
    name: Annotated[
        str | None, typer.Argument(help="A technique's name or YAML path; without one all are listed.")
    ] = None,
    model: Annotated[str, typer.Option(help="The target, a model's name or path.")] = "llama-3.1-8b",
    draft_model: Annotated[
        str | None,
        typer.Option(help="Draft model where one is needed; default the smallest of the same vocabulary."),
    ] = None,
    draft_tokens: Annotated[
        int | None, typer.Option("-k", help="Drafted tokens a round; default the technique's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Techniques by taxonomy, or one explained: mechanism, passes, bytes, acceptance, sources, what is not known."""
    from specsim.specs.catalog import load_model
    from specsim.speculation.program import load_program, program_names

    if name is None:
        programs = [load_program(one) for one in program_names()]
        if as_json:
            print_json({"drafters": [_row(program) for program in programs], "policies": _policies()})
        else:
            console().print(_listing(programs))
            console().print(_policy_listing())
        return
    program, target = load_program(name), load_model(model)
    document = _document(program, target, draft_model, draft_tokens)
    if as_json:
        print_json(document)
    else:
        _explain(program, document)


def _row(program: DraftProgram) -> dict[str, Any]:
    taxonomy, acceptance = program.taxonomy, program.acceptance
    return {
        "name": program.name,
        "drafting": taxonomy.drafting if taxonomy else None,
        "verification": _verification(program),
        "adaptation": taxonomy.adaptation if taxonomy else None,
        "lossless": program.lossless,
        "draft_model": program.needs_draft_model,
        "acceptance_basis": acceptance.basis if acceptance else None,
        "source": program.source,
    }


def _policies() -> list[dict[str, str]]:
    """The adaptive schemes: kind, what it does, where it is from. The batching study's profiled table first."""
    from typing import get_args

    from specsim.speculation.policy import Policy

    kinds = get_args(get_args(Policy)[0])
    told = [
        {
            "kind": kind.model_fields["kind"].default,
            "about": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            "source": ", ".join(dict.fromkeys(re.findall(r"arXiv \d{4}\.\d{5}", kind.__doc__ or ""))),
        }
        for kind in kinds
    ]
    return sorted(told, key=lambda one: one["kind"] != "profiled")


def _policy_listing() -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="\nadaptive schemes: how many tokens to draft next (speculation.policy.kind)",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        show_edge=False,
        pad_edge=False,
    )
    for column in ("kind", "rule", "arXiv"):
        table.add_column(column, no_wrap=column == "kind", overflow="fold")
    for one in _policies():
        table.add_row(one["kind"], escape(one["about"].replace("`", "")), one["source"].replace("arXiv ", ""))
    return table


def _verification(program: DraftProgram) -> str:
    if not program.drafts or not program.verifies:
        return "none"
    return f"{'tree' if program.proposal.tree else 'chain'}, {program.verify.rule}"


def _listing(programs: list[DraftProgram]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title="techniques, by how they draft, verify and adapt",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        show_edge=False,
        pad_edge=False,
        caption_justify="left",
        caption="acceptance is each one's own publication's, on its own target and data: comparing techniques by it "
        "ranks benchmarks",
    )
    for column in ("name", "verification", "adaptation", "loss-\nless", "accep-\ntance", "arXiv"):
        table.add_column(column, no_wrap=column in ("name", "verification"), overflow="fold")
    rows = sorted((_row(program) for program in programs), key=lambda row: (str(row["drafting"]), row["name"]))
    before = None
    for row in rows:
        group = row["drafting"] or "unstated"
        if group != before:
            table.add_row(f"[bold]{group}[/bold]")
        table.add_row(
            f" {row['name']} ",
            row["verification"],
            row["adaptation"] or "",
            "yes" if row["lossless"] else "no",
            row["acceptance_basis"] or "-",
            _paper(row["source"]),
        )
        before = group
    return table


def _paper(source: str) -> str:
    """The arXiv number that a source names first, else who it is of."""
    cited = re.search(r"arXiv (\d{4}\.\d{5})", source)
    return cited[1] if cited else source.split(",")[0]


def _document(
    program: DraftProgram, target: ModelSpec, draft_model: str | None, draft_tokens: int | None
) -> dict[str, Any]:
    from specsim.errors import InvalidInput
    from specsim.specs.catalog import load_model, smallest_of_vocabulary
    from specsim.speculation.explain import facts

    draft = None
    if program.needs_draft_model:
        chosen = draft_model or smallest_of_vocabulary(target)
        if chosen is None:
            raise InvalidInput(f"no bundled model shares {target.name}'s vocabulary; name one with --draft-model")
        draft = load_model(chosen)
    elif draft_model is not None:
        raise InvalidInput(f"program {program.name!r} runs no draft model; leave --draft-model out")
    k = program.draft_tokens or 0 if draft_tokens is None else draft_tokens
    if k not in program.choices(max(k, 0)):
        raise InvalidInput(f"-k {k} is no draft length of {program.name}; give one of {_known(program)}")
    described = program.model_dump(mode="json", exclude_none=True)
    return {
        **_row(program),
        "mechanism": program.mechanism,
        "program": described,
        "tokens_per_round": program.tokens_per_round(k),
        "cost": dataclasses.asdict(facts(program, target, draft, k)),
        "figures": program.figures,
        "unknown": list(program.unknown),
    }


def _known(program: DraftProgram) -> str:
    sizes = program.choices(256)
    return ", ".join(map(str, sizes)) if len(sizes) < 20 else f"{sizes[0]} to {sizes[-1]}"


def _explain(program: DraftProgram, document: dict[str, Any]) -> None:
    from specsim.units import GB

    out, cost = console(), document["cost"]
    out.print(f"[bold]{program.name}[/bold]  {program.source}\n{program.mechanism}")
    kind = [f"drafting: {document['drafting']}", f"verification: {document['verification']}"]
    out.print(", ".join([*kind, f"adaptation: {document['adaptation']}", f"lossless: {document['lossless']}"]))
    out.print(f"\n[bold]Cost[/bold] on {cost['target']}, k = {cost['draft_tokens']}")
    for phase in cost["phases"]:
        out.print(f"  {_phase_line(phase)}")
    out.print(
        f"  verify pass: {cost['verify_width']} tokens a sequence; target pass reads "
        f"{cost['target_bytes_per_pass'] / GB:.2f} GB\n"
        f"  all draft passes of a round read {cost['round_weight_share']:.3f} of that\n"
        f"  memory: {cost['extra_weight_bytes'] / GB:.3f} GB of weights, {cost['draft_kv_bytes_per_token']:,.0f} "
        f"bytes of KV a token, {cost['scratch_bytes_per_sequence']:,.0f} bytes of scratch a sequence\n"
        f"  {cost['lookahead_tokens']} KV slots and {cost['budget_tokens']} budget slots ahead a sequence",
    )
    store = program.footprint.host_bytes
    if store != 0:
        out.print(f"  store on the host: {'size not known' if store is None else f'{store / GB:.3f} GB'}")
    if program.modifier is not None:
        out.print(f"  target: {program.modifier.model_dump(mode='json', exclude_none=True)}", soft_wrap=True)
    _explain_acceptance(program, document)
    for title, lines in (
        ("Sources", [f"{figure}: {source}" for figure, source in program.figures.items()]),
        ("Not known", list(program.unknown)),
    ):
        if lines:
            out.print(f"\n[bold]{title}[/bold]")
            for line in lines:
                out.print(f"  - {line}")


def _phase_line(phase: dict[str, Any]) -> str:
    from specsim.units import GB

    if phase["where"] == "cpu":
        return f"on the CPU: {phase['host_s_per_sequence'] * 1e6:g} us a sequence"
    if phase["placement"] == "fused":
        return f"fused: {phase['extra_target_width']} more tokens a sequence in the target's own pass"
    widths = phase["pass_widths"]
    if not widths:
        return f"held in memory, not run by every pass: {phase['parameters'] / 1e6:.0f} M parameters"
    shape = f"width {widths[0]}" if len(set(widths)) == 1 else f"widths {', '.join(map(str, widths))}"
    beside = " beside the target's pass" if phase["placement"] == "overlapped" else ""
    return (
        f"{len(widths)} pass{'es' if len(widths) > 1 else ''}{beside}, {shape}: {phase['parameters'] / 1e6:.0f} M "
        f"weights, {phase['bytes_per_pass'] / GB:.3f} GB, {phase['weight_share']:.3f} of the target's"
    )


def _explain_acceptance(program: DraftProgram, document: dict[str, Any]) -> None:
    out = console()
    if program.acceptance is not None:
        law = program.acceptance.law.model_dump(mode="json", exclude_none=True)
        out.print(
            f"\n[bold]Acceptance[/bold], {program.acceptance.basis}: {document['tokens_per_round']:.2f} tokens a round"
        )
        text = yaml.safe_dump(law, default_flow_style=True, sort_keys=False, width=10_000).strip().strip("{}")
        out.print(f"  {text}\n  {program.acceptance.source}", markup=False)
    elif program.drafts:
        out.print("\n[bold]Acceptance[/bold]: none by default; a scenario gives it")
    if program.stop is not None:
        out.print(f"  drafting stops below confidence {program.stop.threshold:g} ({program.stop.source})")
