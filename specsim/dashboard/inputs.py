"""The sidebar: what the user asks, as the fields of a scenario file. Every input is bound to the URL.

Names offered are the package's own presets and profiles, spelt as a scenario spells them, so that the address
bar, the downloaded file and the page say the same words.
"""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from specsim.errors import InvalidInput, NoAnswer
from specsim.profiles.store import profile_names
from specsim.specs.catalog import hardware_names, load_model, model_names
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.program import DraftProgram, load_program, program_names

URL: Literal["query-params"] = "query-params"
AS_PUBLISHED = "as published"
LONGEST, DEFAULT_DRAFT = 16, 8
LAWS_HELP = (
    "stated: what is published of the technique, or assumed of it. constant: every draft token alike. "
    "power_law: accepted tokens = c·k^γ. conditional: a rate for each position."
)
RATES_HELP = (
    "a₁, a₂, …: probability that draft i is accepted once those before it were. Engines log unconditional rates; "
    "divide each by the one before it."
)


def ask() -> dict[str, Any]:
    """Draw the sidebar and read it: the fields of a scenario file.

    Raises InvalidInput or NoAnswer, after drawing, for what no scenario can say.
    """
    with st.sidebar:
        st.subheader("Model and GPU")
        model = _choice("Model", model_names(), "llama-3.1-8b", key="model")
        gpu = _choice("GPU", _gpu_names(), "h200", key="gpu", help="Hardware presets, then measured profiles.")
        st.subheader("Speculation")
        program = _choice("Drafter", _drafters(), "draft-model", key="drafter")
        needs_model = load_program(program).needs_draft_model
        draft = _draft_model(model) if needs_model else None
        acceptance, rates = _acceptance(load_program(program))
        k = _longest_draft(load_program(program), stated=acceptance is None)
        st.subheader("Load")
        batch, workload = _load()
        with st.expander("Precision, engine, prices"):
            settings = _settings(gpu)
    if needs_model and draft is None:
        raise NoAnswer(f"no preset model is smaller than {model} and shares its vocabulary; choose another drafter")
    largest = settings["engine"]["max_num_seqs"]
    if batch > largest:
        raise InvalidInput(f"{batch} running sequences exceed max_num_seqs {largest}; raise it or run fewer")
    speculation: dict[str, Any] = {"program": program, "max_draft_tokens": k}
    if acceptance is not None:
        speculation["acceptance"] = acceptance if rates is None else acceptance | {"rates": _numbers(rates)}
    if draft is not None:
        speculation["draft_model"] = draft
    fields = {"schema": 1, "name": f"{model}-on-{gpu}", "model": model, "gpu": gpu}
    return fields | settings | {"speculation": speculation, "workload": workload}


def _choice(label: str, options: list[str] | tuple[str, ...], default: str, *, key: str, help: str = "") -> str:
    index = list(options).index(default)
    return str(st.selectbox(label, options, index, key=key, help=help or None, bind=URL))


def _gpu_names() -> list[str]:
    return list(dict.fromkeys([*hardware_names(), *profile_names()]))  # a profile may bear its hardware's name


def _drafters() -> list[str]:
    return [name for name in program_names() if load_program(name).drafts]


def _draft_model(target: str) -> str | None:
    """A smaller preset with as many tokens in its vocabulary: exact verification compares the two token by token."""
    model = load_model(target)
    smaller = {
        name: spec.parameter_count()
        for name, spec in ((name, load_model(name)) for name in model_names())
        if spec.vocab_size == model.vocab_size and spec.parameter_count() < model.parameter_count()
    }
    names = sorted(smaller, key=smaller.__getitem__)
    return _choice("Draft model", names, names[0], key="draft") if names else None


def _longest_draft(program: DraftProgram, *, stated: bool) -> int:
    """A tree's size is the technique's own; a chain may be as long as its acceptance is known."""
    if program.proposal.tree:
        st.caption(f"Drafts a tree of up to {program.draft_tokens} tokens.")
        return program.draft_tokens or 1
    law = program.acceptance.law if stated and program.acceptance else None
    most = next((k - 1 for k in range(1, LONGEST + 1) if law is not None and not _reaches(law, k)), LONGEST)
    default = min(program.draft_tokens or DEFAULT_DRAFT, most)
    return int(st.slider("Longest draft, k tokens", 1, most, default, key="k", bind=URL)) if most > 1 else 1


def _reaches(law: AcceptanceLaw, draft_tokens: int) -> bool:
    try:
        law.conditional_rates(draft_tokens)
    except InvalidInput:
        return False
    return True


def _acceptance(program: DraftProgram) -> tuple[dict[str, Any] | None, str | None]:
    """The law's fields, None for the technique's own, and its rates as typed where they still have to be read."""
    stated = program.acceptance
    laws = () if program.proposal.tree else ("constant", "power_law", "conditional")
    kinds = (*(("stated",) if stated else ()), *laws)
    kind = _choice("Acceptance", kinds, kinds[0], key="acceptance", help=LAWS_HELP)
    if kind == "stated" and stated is not None:
        st.caption(f"{stated.basis.capitalize()}: {stated.source}")
        return None, None
    if kind == "constant":
        rate = st.slider("Rate of each draft token", 0.0, 1.0, 0.7, 0.01, key="rate", bind=URL)
        return {"kind": kind, "rate": rate}, None
    if kind == "power_law":
        left, right = st.columns(2)
        c = left.number_input("c", 0.01, 1.0, 0.7, 0.05, key="c", bind=URL)
        gamma = right.number_input("γ", 0.01, 0.99, 0.55, 0.05, key="gamma", bind=URL)
        return {"kind": kind, "c": c, "gamma": gamma}, None
    default = "0.80, 0.75, 0.70, 0.66, 0.63, 0.60, 0.58, 0.56"
    typed = st.text_input("Conditional rates", default, key="rates", help=RATES_HELP, bind=URL)
    return {"kind": "conditional"}, typed or ""


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InvalidInput(
            f"acceptance rates {text!r} are not a list of numbers; write for instance 0.8, 0.7, 0.6"
        ) from None


def _load() -> tuple[int, dict[str, Any]]:
    """Batch size and workload: as many clients as running sequences, each starting anew when it is served."""
    batch = int(st.number_input("Running sequences (batch)", 1, 4096, 8, key="batch", bind=URL))
    left, right = st.columns(2)
    prompt = int(left.number_input("Prompt tokens", 1, 1_000_000, 1024, 128, key="prompt", bind=URL))
    output = int(right.number_input("Output tokens", 1, 1_000_000, 256, 128, key="output", bind=URL))
    return batch, {
        "kind": "synthetic",
        "arrivals": {"kind": "closed_loop", "concurrency": batch},
        "lengths": {"kind": "fixed", "prompt_tokens": prompt, "output_tokens": output},
        "requests": 4 * batch,
    }


def _settings(gpu: str) -> dict[str, dict[str, Any]]:
    formats = {AS_PUBLISHED: None} | {name: name for name in ("bf16", "fp8", "awq", "mxfp4", "nvfp4")}
    weights = st.selectbox("Weight format", list(formats), key="weight_format", bind=URL)
    kv = int(st.selectbox("KV-cache bits", ["16", "8"], key="kv_bits", bind=URL))
    largest = int(st.number_input("max_num_seqs (largest batch)", 1, 4096, 256, key="max_num_seqs", bind=URL))
    measured = "measured where available"
    prices = st.selectbox("Prices", [measured, "roofline"], key="prices", bind=URL)
    cost = {"source": "kernels" if prices == measured else "roofline"}
    if gpu in profile_names():
        cost["profile"] = gpu
    return {
        "deployment": {"weight_format": formats[weights], "kv_bits": kv},
        "engine": {"max_num_seqs": largest},
        "cost": cost,
    }
