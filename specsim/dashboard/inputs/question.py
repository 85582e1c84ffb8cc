"""The sidebar: scenario A, and what is different in scenario B, in the words of a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from specsim.dashboard.inputs.fields import Choice, Field, Number, Text
from specsim.dashboard.inputs.words import Words, acceptance_setting
from specsim.errors import InvalidInput
from specsim.profiles.store import profile_names
from specsim.scenario import ShortOptions
from specsim.specs.catalog import hardware_names, model_names
from specsim.specs.yaml_file import read_mapping
from specsim.speculation.program import load_program, program_names

InputGroups = dict[str, Sequence[Sequence[str]]]
EXAMPLES = read_mapping(Path(__file__).parent / "examples.yaml")
DRAFTERS = ("off", *(name for name in program_names() if load_program(name).drafts), *model_names())
GPUS = tuple(dict.fromkeys([*hardware_names(), *profile_names()]))  # a profile may bear its hardware's name
FORMATS = ("bf16", "fp8", "awq", "mxfp4", "nvfp4")

# In the order in which they are drawn; the keys are the command line's own where it has a word for them.
FIELDS: dict[str, Field] = {
    field.key: field
    for field in (
        Choice("model", "Model", model_names(), "as the file says", "Bundled models; upload a config.json for yours."),
        Choice("gpu", "GPU", GPUS, "as the file says", "Cards by datasheet, then measured profiles."),
        Choice(
            "tp",
            "Tensor parallel",
            ("1", "2", "4", "8", "16"),
            "fewest",
            "GPUs that share each layer; the fewest that fit.",
        ),
        Number("replicas", "Replicas", 1, 100_000, "1"),
        Choice("drafter", "Drafter", DRAFTERS, "as the file says", "Techniques, then small models as draft models."),
        Number("draft-tokens", "Draft tokens k", 1, 64, "its own"),
        Text(
            "acceptance",
            "Acceptance",
            "published",
            "One rate (0.7), or rates by position as engines log them "
            "(0.74, 0.54, 0.41), each the chance that so many drafts are all accepted.",
        ),
        Number("rate", "Requests/s", 0.001, 1e6, "closed loop", "Poisson arrivals."),
        Number("concurrency", "or clients", 1, 100_000, "8", "Each sends its next request when one ends."),
        Number("prompt", "Prompt tokens", 1, 10_000_000, "1024"),
        Number("output", "Output tokens", 1, 1_000_000, "256"),
        Text("ttft-p95", "TTFT p95", "0.8"),
        Text("tpot-p95", "TPOT p95", "40ms"),
        Text("e2e-p95", "E2E p95", "20"),
        Choice("engine", "Engine", ("vllm", "sglang", "tensorrt-llm"), "vllm"),
        Text("version", "Version", "newest known", "For instance 0.24."),
        Choice("weights", "Weight format", FORMATS, "as published"),
        Choice("kv-bits", "KV-cache bits", ("16", "8"), "16"),
        Number("max-num-seqs", "max_num_seqs", 1, 65_536, "the engine's"),
        Choice("prices", "Prices", ("kernels", "roofline"), "measured if known", "Measured kernels, or datasheet."),
        Number("usd", "USD per GPU-hour", 0.001, 1e5, "not asked"),
        Number("batch", "Batch of the verdict", 1, 65_536, "the load's", "Running sequences that the verdict means."),
        Text("gpus", "GPU types to plan with", "the question's", "Names after commas: h100,h200,l40s."),
        Text("price", "Their USD an hour", "h100=2.50, h200=3.80", "After commas; a plan then ranks by cost."),
        Text("drafters", "Drafters to compare", "those engines serve", "Names after commas: eagle3,ngram,qwen3-0.6b."),
        Number("seed", "Seed", 0, 2**31, "0"),
        Text(
            "set", "Further settings", "deployment.kv_bits=8", "path.to.field=value, one a line, as --set.", lines=True
        ),
        Text("base", "Starts from", "nothing", "Fields of a scenario that the inputs above override.", lines=True),
    )
}
SETTINGS = {
    "replicas": "deployment.replicas",
    "weights": "deployment.weight_format",
    "kv-bits": "deployment.kv_bits",
    "max-num-seqs": "engine.max_num_seqs",
    "prices": "cost.source",
    "usd": "usd_per_gpu_hour",
    "seed": "seed",
}
GROUPS: InputGroups = {  # rows of inputs by the title that folds them away
    "": (
        ("model",), ("gpu",), ("tp", "replicas"), ("drafter",), ("draft-tokens", "acceptance"),
        ("rate", "concurrency"), ("prompt", "output"), ("ttft-p95", "tpot-p95", "e2e-p95"),
    ),
    "Engine, precision, prices": (
        ("engine", "version"), ("weights", "kv-bits"), ("max-num-seqs", "prices"), ("usd", "batch"), ("seed",),
    ),
}  # fmt: skip
CHOICES = ("gpus", "price", "drafters")
SHARED: InputGroups = {  # that scenario B has from A
    "What Plan and Compare may choose": tuple((key,) for key in CHOICES),
    "Further settings": (("set",), ("base",)),
}
B = "b-"


def keys_of_links() -> dict[str, Field]:
    """Every input by its name in the address."""
    return FIELDS | {B + key: field for key, field in _fields_of_b().items()}


def _fields_of_b() -> dict[str, Any]:
    """By their names in A."""
    keys = [key for rows in GROUPS.values() for row in rows for key in row]
    own: dict[str, Any] = {key: FIELDS[key] for key in keys}
    return {key: replace(field, key=B + key, unsaid="as A") for key, field in own.items()}


def ask_a() -> Words:
    """Draw the inputs of scenario A and read them."""
    st.selectbox(
        "Example",
        [*EXAMPLES["questions"]],
        None,
        key="example",
        placeholder="start from one",
        on_change=_take,
        args=("example", "questions"),
    )
    values = _draw(FIELDS, GROUPS | SHARED, "")
    st.selectbox(
        "Traffic",
        [*EXAMPLES["traffic"]],
        None,
        key="traffic",
        placeholder="usual lengths and limits",
        on_change=_take,
        args=("traffic", "traffic"),
    )
    return words(values)


def _take(key: str, kind: str) -> None:
    """Put an example's values into the inputs; a whole question empties the others."""
    chosen = st.session_state[key]
    if chosen is None:
        return
    if kind == "questions":
        clear()
    for name, value in EXAMPLES[kind][chosen].items():
        st.session_state[name] = value


def clear() -> None:
    """Empty every input of scenario A."""
    for name in FIELDS:
        st.session_state[name] = None


def ask_b(values: Mapping[str, Any]) -> Words:
    """Draw what is different in scenario B; ``values``: those of A."""
    own = _draw(_fields_of_b(), GROUPS, B)
    said = {key: value for key, value in own.items() if value is not None}
    kept = dict(values)
    for one, other in (("rate", "concurrency"), ("concurrency", "rate")):
        if one in said:
            kept[other] = None
    if said.get("drafter") not in (None, kept.get("drafter")):
        kept |= {"acceptance": None, "draft-tokens": None}
    return words(kept | said)


def values_of_a() -> dict[str, Any]:
    """What the inputs of scenario A hold."""
    return {key: st.session_state.get(key) for key in FIELDS}


def _draw(fields: Mapping[str, Field], groups: InputGroups, prefix: str) -> dict[str, Any]:
    """Draw inputs in groups and read them, by their names without the prefix."""
    found: dict[str, Any] = {}
    for title, rows in groups.items():
        with st.expander(title) if title else st.container():
            for row in rows:
                if row[0] == "ttft-p95":
                    st.caption("SLO: most at the 95th percentile, 0.8 for seconds or 40ms")
                for column, key in zip(st.columns(len(row)), row, strict=True):
                    with column:
                        found[key] = fields[key].draw(_forget_law if key == "drafter" and not prefix else None)
    return found


def _forget_law() -> None:
    """A law that was fitted to logs is that of the drafter that wrote them."""
    law = st.session_state.get("acceptance")
    if law and law.lstrip().startswith("{"):
        st.session_state["acceptance"] = None


def words(values: Mapping[str, Any]) -> Words:
    """The question that inputs ask. Raises InvalidInput for an acceptance that is none."""
    said = {key: value for key, value in values.items() if value not in (None, "")}
    options = ShortOptions(
        model=said.get("model"),
        gpu=said.get("gpu"),
        tensor_parallel=int(said["tp"]) if "tp" in said else None,
        drafter=said.get("drafter"),
        draft_tokens=said.get("draft-tokens"),
        rate_per_s=said.get("rate"),
        concurrency=said.get("concurrency"),
        prompt_tokens=said.get("prompt"),
        output_tokens=said.get("output"),
        ttft_p95=said.get("ttft-p95"),
        tpot_p95=said.get("tpot-p95"),
        e2e_p95=said.get("e2e-p95"),
        engine=_engine(said),
    )
    settings = [f"{path}={said[key]}" for key, path in SETTINGS.items() if key in said]
    if "acceptance" in said:
        settings.append(acceptance_setting(said["acceptance"]))
    settings += [line.strip() for line in said.get("set", "").splitlines() if line.strip()]
    choices = {key: _names(said.get(key, "")) for key in CHOICES}
    return Words(options, tuple(settings), said.get("base"), said.get("batch"), **choices)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _engine(said: Mapping[str, Any]) -> str | None:
    if "version" in said and "engine" not in said:
        raise InvalidInput(f"version {said['version']} is given and no engine; choose the engine too")
    return f"{said['engine']} {said.get('version', '')}".strip() if "engine" in said else None
