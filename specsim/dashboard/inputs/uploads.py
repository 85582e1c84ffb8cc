"""Files and pasted text: each is read by the package's own readers and becomes words of the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from specsim.dashboard.inputs.fields import LONGEST_TEXT
from specsim.dashboard.inputs.logs import keep_logs, read_logs
from specsim.dashboard.inputs.question import FIELDS, clear
from specsim.dashboard.inputs.store import Limits, Upload, kept, kept_folder, name_file
from specsim.dashboard.inputs.words import fields_of, flow, merged
from specsim.errors import InvalidInput, SpecsimError
from specsim.interop.draft_program import program_of
from specsim.interop.huggingface import model_from_config
from specsim.interop.huggingface.draft_head import read_draft_head
from specsim.interop.load_results import read_load_results
from specsim.interop.server import read_server
from specsim.interop.traces.read import read_trace
from specsim.json_file import parse_json_object
from specsim.named_files import only_files
from specsim.profiles.store import HEADER, profile_hardware
from specsim.report.fitted_acceptance import law_fields
from specsim.scenario.natural_names import with_field_names
from specsim.scenario.source import trace_fields
from specsim.specs.yaml_file import build
from specsim.speculation.program import DraftProgram


@dataclass(frozen=True, slots=True)
class Taken:
    """What an upload says: ``fields`` of a scenario to start from, ``values`` of inputs, and what to tell."""

    told: str
    fields: Mapping[str, Any]
    values: Mapping[str, Any]
    whole: bool = False  # it says all of the question


UploadReader = Callable[[Sequence[Upload]], Taken]


def take(reader: UploadReader, uploads: Sequence[Upload]) -> str:
    """Put what uploads say into the inputs; what to tell. Raises InvalidInput or NoAnswer, and nothing changes."""
    found = reader(uploads)
    before = {} if found.whole else fields_of(st.session_state.get("base") or "{}")
    base = flow(merged(before, found.fields)) if found.fields or before else None
    if base is not None and len(base) > LONGEST_TEXT:
        raise InvalidInput(
            f"its fields take {len(base):,} characters, and a link holds {LONGEST_TEXT:,}; use the command line"
        )
    if found.whole:
        clear()
    for key, value in found.values.items():
        st.session_state[key] = value
    if base is not None:
        st.session_state["base"] = base
    return found.told


def read_model(uploads: Sequence[Upload]) -> Taken:
    (one,) = uploads
    model = model_from_config(parse_json_object(one.text(), one.name, "give a model's config.json"))
    fields = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    told = f"{one.name}: {model.name}, {model.parameter_count() / 1e9:.2f}B parameters"
    return Taken(told, {"model": fields}, {"model": None})


def read_program(uploads: Sequence[Upload]) -> Taken:
    (one,) = uploads
    if one.name.endswith(".json"):
        head = read_draft_head(parse_json_object(one.text(), one.name, "give a draft head's config.json"))
        program = program_of(replace(head, where=one.name))
        fields = program.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    else:
        fields = fields_of(one.text())
        program = build(DraftProgram, fields, where=one.name)
    values = {"drafter": None, "draft-tokens": None, "acceptance": None}
    return Taken(f"{one.name}: draft program {program.name}", {"speculation": {"program": fields}}, values)


def read_profile(uploads: Sequence[Upload]) -> Taken:
    if HEADER not in {one.name for one in uploads}:
        raise InvalidInput(f"a profile is {HEADER} and its CSV files; give {HEADER} too")
    folder = kept_folder(uploads)
    with only_files({str(folder): folder}):
        gpu = profile_hardware(str(folder))
    name = f"my-{'-'.join(gpu.name.lower().split())}"
    name_file(name, folder)
    return Taken(f"profile of {gpu.name}, called {name}", {"gpu": name}, {"gpu": None})


def read_requests(uploads: Sequence[Upload]) -> Taken:
    (one,) = uploads
    path = kept(one)
    trace = read_trace(path)
    name_file(one.name, path)
    fields, remarks = trace_fields(trace, one.name)
    values = {"prompt": None, "output": None}
    if fields["workload"]["kind"] == "trace":
        values |= {"rate": None, "concurrency": None}
    told = (f"{one.name}: {len(trace.requests):,} requests ({trace.format})", *remarks)
    return Taken("; ".join(told), fields, values)


def read_acceptance(uploads: Sequence[Upload]) -> Taken:
    (one,) = uploads
    path = kept(one)
    with only_files({str(path): path}):
        logs = read_logs(path, one.name)
    keep_logs(logs)
    chosen = logs.law.chosen
    told = (
        f"{one.name} ({logs.records[0].format}): acceptance length {chosen.acceptance_length.value:.2f} with "
        f"{chosen.draft_tokens} drafts, {chosen.name} law"
    )
    return Taken(told, {}, {"acceptance": flow(law_fields(chosen)), "draft-tokens": chosen.draft_tokens})


def read_results(uploads: Sequence[Upload]) -> Taken:
    """A load test's lengths and load, its acceptance where it tells it; its figures are kept for the evidence."""
    (one,) = uploads
    path = kept(one)
    with only_files({str(path): path}):
        runs = read_load_results(path)
    run = runs[0]
    st.session_state["measured"] = (one.name, run)
    values: dict[str, Any] = {
        "prompt": max(1, round(run.prompt_tokens)),
        "output": max(1, round(run.output_tokens)),
        "rate": run.rate_per_s,
        "concurrency": None if run.rate_per_s else run.concurrency or 1,
    }
    told = (
        f"{one.name} ({run.format}): {run.requests:,} requests of {values['prompt']:,} and {values['output']:,} tokens"
    )
    if run.acceptance_length is not None and run.draft_tokens is not None:
        try:
            accepted = read_acceptance(uploads)
        except SpecsimError:  # a mean without what else a law needs
            return Taken(told, {}, values)
        return Taken(f"{told}; {accepted.told}", {}, values | dict(accepted.values))
    return Taken(told, {}, values)


def read_scenario(uploads: Sequence[Upload]) -> Taken:
    (one,) = uploads
    return Taken(f"{one.name}: a scenario", with_field_names(fields_of(one.text())), {}, whole=True)


def read_command(text: str) -> Taken:
    """An engine's command line, manifest or configuration: no file that it names is looked for."""
    fields, notes = read_server(text).scenario_fields()
    values: dict[str, Any] = {"engine": None, "version": None}
    if "model" in fields:
        values["model"] = None
    if "tensor_parallel" in fields.get("deployment", {}):
        values["tp"] = None
    if "speculation" in fields:
        values |= {"drafter": None, "draft-tokens": None, "acceptance": None}
    engine = fields["engine"]["kind"]
    return Taken("; ".join([f"a {engine} server", *notes]), fields, values)


KINDS: dict[str, tuple[UploadReader, Limits, list[str]]] = {
    "Model (config.json)": (read_model, Limits(1), ["json"]),
    "Drafter (program YAML, or a head's config.json)": (read_program, Limits(0.2), ["yaml", "yml", "json"]),
    "Trace of requests": (read_requests, Limits(16), ["csv", "json", "jsonl"]),
    "Acceptance (metrics dump, server log, responses)": (
        read_acceptance,
        Limits(8),
        ["txt", "log", "prom", "json", "jsonl"],
    ),
    "Load test result": (read_results, Limits(4), ["json", "jsonl"]),
    "Profile (profile.yaml and CSVs)": (read_profile, Limits(8, files=12), ["yaml", "csv"]),
    "Scenario (YAML)": (read_scenario, Limits(0.1), ["yaml", "yml"]),
}


def ask_files() -> None:
    """Draw the files' part of the sidebar; what is given is taken before the page is drawn anew."""
    kind = st.selectbox("What is it?", [*KINDS], key="upload kind")
    _, limits, endings = KINDS[kind]
    number = st.session_state.setdefault("upload number", 0)
    st.file_uploader(
        f"At most {limits.megabytes:g} MB",
        endings,
        accept_multiple_files=limits.files > 1,
        key=f"upload {number}",
        on_change=_take_files,
        args=(kind, f"upload {number}"),
        label_visibility="collapsed",
    )
    st.text_area(
        "Or an engine's command line",
        key="pasted",
        height=90,
        max_chars=LONGEST_TEXT,
        placeholder="vllm serve meta-llama/Llama-3.3-70B-Instruct --tensor-parallel-size 4",
    )
    st.button("Read it", on_click=_take_command, key="read it")
    outcome = st.session_state.get("upload outcome")
    if outcome is not None:
        (st.success if outcome[0] else st.error)(outcome[1])
    if any(st.session_state.get(key) for key in ("base", "set")):
        st.button("Forget files and settings", on_click=_forget, key="forget")


def _take_files(kind: str, key: str) -> None:
    given = st.session_state[key]
    files = given if isinstance(given, list) else [given]
    if not all(files) or not files:
        return
    reader, limits, _ = KINDS[kind]
    _tell(lambda: take(reader, Upload.of([(file.name, file.getvalue()) for file in files], limits)))
    st.session_state["upload number"] += 1  # an empty uploader, so that the file is not held twice


def _take_command() -> None:
    text = st.session_state.get("pasted") or ""
    with only_files({}):
        _tell(lambda: take(lambda _: read_command(text), ()))


def _tell(work: Callable[[], str]) -> None:
    try:
        outcome = (True, work())
    except SpecsimError as error:
        outcome = (False, str(error))
    st.session_state["upload outcome"] = (outcome[0], " ".join(outcome[1].split())[:LONGEST_TOLD])


def _forget() -> None:
    for key in ("base", "set", "upload outcome", "logs", "measured", "files"):
        if key in FIELDS:
            st.session_state[key] = None
        else:
            st.session_state.pop(key, None)


LONGEST_TOLD = 800
