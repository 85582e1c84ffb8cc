"""``specsim import``: what was understood of an engine's file or command line, as YAML to paste, and what was not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from specsim.cli.options import JsonOption, console, messages, print_json
from specsim.cli.verb import Verb

app = typer.Typer(
    no_args_is_help=True, help="Read an engine's configuration, logs, results, a trace or a model: YAML to paste."
)
LONGEST_PATH = 1024
FileArgument = Annotated[Path, typer.Argument(help="The file, as its program wrote it.")]


@app.command("acceptance", cls=Verb)
def acceptance(
    file: FileArgument,
    before: Annotated[
        Path | None, typer.Option(help="An earlier dump of the same server's /metrics; only what came after counts.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where a dump holds several.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Acceptance from /metrics, a server's log, vllm bench serve, AIPerf or responses: vLLM, SGLang, llama.cpp."""
    from specsim.interop.acceptance import read_acceptance

    record = read_acceptance(file, before, model=model)
    counts, k = record.counts, record.draft_tokens()
    facts: dict[str, Any] = {
        "format": record.format,
        "drafting_rounds": counts.drafting_rounds() if counts is not None else record.mean and record.mean.rounds,
        "requests": len(record.requests) or None,
        "draft_tokens": k,
        "acceptance_length": record.acceptance_length(),
        "accepted_by_position": counts and counts.per_position_rates(),
    }
    law = record.law()
    speculation = {"max_draft_tokens": k, "acceptance": law.model_dump(mode="json", exclude_none=True)}
    _answer({"speculation": speculation}, facts, record.notes, as_json=as_json)


@app.command("bench", cls=Verb)
def bench(file: FileArgument, as_json: JsonOption = False) -> None:
    """The load and the figures of vllm bench serve, SGLang's bench_serving, AIPerf, genai-perf or GuideLLM."""
    from specsim.interop.load_results import read_load_results

    runs = read_load_results(file)
    if as_json:
        print_json([{"format": one.format, "workload": one.workload(), "measured": dict(one.metrics)} for one in runs])
        return
    for one in runs:
        notes = ["requests all have the mean lengths: the file does not give their spread"]
        if one.concurrency is None and one.rate_per_s is None:
            notes.append("the file names neither concurrency nor rate: one client is taken")
        _answer({"workload": one.workload()}, {"format": one.format, **one.metrics}, tuple(notes), as_json=False)


@app.command("trace", cls=Verb)
def trace(file: FileArgument, as_json: JsonOption = False) -> None:
    """Which requests a trace holds: its format is known by its columns."""
    from specsim.interop.traces.read import read_trace

    found = read_trace(file)
    requests = found.requests
    facts: dict[str, Any] = {
        "format": found.format,
        "requests": len(requests),
        "prompt_tokens_mean": float(requests.prompt_tokens.mean()),
        "output_tokens_mean": float(requests.output_tokens.mean()),
    }
    if requests.arrival_s is not None and len(requests) > 1:
        span = float(requests.arrival_s[-1] - requests.arrival_s[0])
        facts |= {"span_s": span, "requests_per_s": (len(requests) - 1) / span if span else None}
        workload: dict[str, Any] = {"kind": "trace", "path": str(file)}
    else:
        lengths = {"kind": "trace", "path": str(file)}
        workload = {"kind": "synthetic", "arrivals": {"kind": "closed_loop", "concurrency": 8}, "lengths": lengths}
    _answer({"workload": workload}, facts, found.remarks(), as_json=as_json)


@app.command("model", cls=Verb)
def model(file: FileArgument, as_json: JsonOption = False) -> None:
    """A model's config.json, or the folder that holds it: its layers, parameters and bytes a token."""
    from specsim.interop.huggingface import model_from_config

    found = model_from_config(file)
    facts = {
        "parameters": found.parameter_count(),
        "parameters_active_per_token": found.active_parameter_count(),
        "weight_bytes": found.weight_bytes(),
        "kv_bytes_per_token": found.kv_bytes_per_token(),
        "state_bytes_per_sequence": found.state_bytes(),
    }
    _answer({"model": found.model_dump(mode="json", exclude_defaults=True)}, facts, (), as_json=as_json)


@app.command("config", cls=Verb)
def config(
    source: Annotated[str, typer.Argument(help="A file, or the command line in quotes; - reads it from stdin.")],
    as_json: JsonOption = False,
) -> None:
    """An engine's command line, Kubernetes manifest or YAML: model, engine, deployment and speculation."""
    import sys

    from specsim.interop.server import read_server
    from specsim.text_file import read_text

    path = Path(source)
    is_file = len(source) < LONGEST_PATH and "\n" not in source and path.is_file()
    text = sys.stdin.read() if source == "-" else read_text(path, "a command line") if is_file else source
    server = read_server(text)
    fields, notes = server.scenario_fields()
    drafter = None if server.speculation is None else server.speculation.draft_model
    _answer(fields, {"drafter": drafter}, notes, as_json=as_json)


def _answer(fields: dict[str, Any], facts: dict[str, Any], notes: tuple[str, ...], *, as_json: bool) -> None:
    """YAML to paste on stdout; what was counted above it as comments, what was not understood on stderr."""
    told = {name: value for name, value in facts.items() if value is not None}
    if as_json:
        print_json(fields | {"read": told, "notes": list(notes)})
        return
    for name, value in told.items():
        console().print(f"# {name}: {_short(value)}", markup=False, soft_wrap=True)
    console().print(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).rstrip(), markup=False, soft_wrap=True)
    for note in notes:
        messages().print(f"note: {note}", markup=False)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1e6 else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
