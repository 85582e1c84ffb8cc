"""The dozen words of a short question, and what they change in a scenario's fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args

from specsim.errors import Faults, InvalidInput, shown
from specsim.scenario.drafter import drafter_fields, forget_drafter, is_another, name_draft_model
from specsim.scenario.read import section
from specsim.specs.engine import EngineKind

FLAGS = {  # of short options, where these are not spelt as the option is
    "tensor_parallel": "--tp",
    "rate_per_s": "--rate",
    "prompt_tokens": "--prompt",
    "output_tokens": "--output",
}
LONGEST_LIMIT_S = {"ttft": 120.0, "tpot": 5.0, "e2e": 7200.0}  # above it, milliseconds were probably meant


@dataclass(frozen=True, slots=True)
class ShortOptions:
    """What a short question says; None: left to the file, or without one to a default that the answer names.

    ``gpu``: a name, with how many (``4x h100``) if wished. ``drafter``: as ``drafter_fields`` reads it. ``engine``:
    a kind, with its version (``vllm 0.24``) if wished. Latency limits are p95s, ``0.04`` or ``40ms``.
    """

    model: str | None = None
    gpu: str | None = None
    tensor_parallel: int | None = None
    drafter: str | None = None
    draft_tokens: int | None = None
    rate_per_s: float | None = None
    concurrency: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    ttft_p95: str | None = None
    tpot_p95: str | None = None
    e2e_p95: str | None = None
    engine: str | None = None

    def words(self) -> list[str]:
        """The same on a command line, option by option."""
        given = ((FLAGS.get(name, f"--{name.replace('_', '-')}"), getattr(self, name)) for name in self.__slots__)
        return [word for flag, value in given if value is not None for word in (flag, _plain(value))]


def _plain(value: object) -> str:
    """A number without a needless point."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def apply_options(data: dict[str, Any], options: ShortOptions, faults: Faults) -> list[str]:
    """Options over the fields of a scenario; what was assumed."""
    assumed: list[str] = []
    if options.model is not None:
        data["model"] = options.model
    with faults.kept():
        if options.gpu is not None:
            assumed += _place(data, options.gpu, options.tensor_parallel)
        elif options.tensor_parallel is not None:
            section(data, "deployment")["tensor_parallel"] = options.tensor_parallel
    with faults.kept():
        if options.engine is not None:
            section(data, "engine").update(_engine(options.engine))
    with faults.kept():  # how much is drafted is of no meaning where it is not known by what
        if options.drafter is not None:
            assumed += _draft_with(data, options.drafter)
        if options.draft_tokens is not None:
            _draft(data, options.draft_tokens)
    with faults.kept():
        _load(data, options)
    with faults.kept():
        _lengths(data, options)
    for latency in LONGEST_LIMIT_S:
        limit = getattr(options, f"{latency}_p95")
        with faults.kept():
            if limit is not None:
                section(section(data, "slo"), f"{latency}_s")["p95"] = _limit_s(latency, limit)
    return assumed


def _place(data: dict[str, Any], gpu: str, tensor_parallel: int | None) -> list[str]:
    """Another GPU, or several: its prices are its own, and so are its conditions."""
    count, name = _counted(gpu)
    data["gpu"] = name
    if count == 0:
        raise InvalidInput(f"--gpu {shown(gpu)} names no GPUs; give a count of 1 or more")
    data.pop("conditions", None)
    if data.get("cost"):
        section(data, "cost").pop("profile", None)
    deployment = section(data, "deployment")
    if tensor_parallel is not None:
        deployment["tensor_parallel"] = tensor_parallel
    if count is None:
        return []
    ranks = deployment["tensor_parallel"] if tensor_parallel is not None else count
    if count % ranks:
        raise InvalidInput(f"--tp {ranks} does not divide the {count} GPUs of --gpu {gpu}; choose a divisor")
    deployment.update(tensor_parallel=ranks, replicas=count // ranks)
    return [] if tensor_parallel is not None or count == 1 else [f"tensor parallel over the {count} GPUs"]


def _counted(gpu: str) -> tuple[int | None, str]:
    """``4x h100`` and ``h100 x4`` as (4, h100); (None, name) without a count."""
    match = re.fullmatch(r"(\d+)\s*[x×*]\s*(.*\S)|(.*\S)\s+[x×*]\s*(\d+)", gpu.strip(), re.IGNORECASE)
    if match is None:
        return None, gpu.strip()
    return int(match[1] or match[4]), match[2] or match[3]


def _engine(text: str) -> dict[str, Any]:
    kind, _, version = re.sub(r"[ :=@]+", " ", text.strip()).partition(" ")
    kinds = {one.replace("-", ""): one for one in get_args(EngineKind)}
    plain = re.sub(r"[-_]", "", kind.lower())
    found = kinds.get(plain, "tensorrt-llm" if plain == "trtllm" else None)
    if found is None:
        raise InvalidInput(f"--engine {shown(text)} is unknown; give one of {', '.join(kinds.values())}")
    return {"kind": found, "version": version or None}


def _draft_with(data: dict[str, Any], drafter: str) -> list[str]:
    fields = drafter_fields(drafter)
    before = data.get("speculation")
    if fields is None:
        data["speculation"] = None
        return []
    same_model = not isinstance(before, dict) or fields.get("draft_model") in (None, before.get("draft_model"))
    if is_another(before, fields["program"]) or not same_model:
        forget_drafter(data)
        data["speculation"] = fields
    return list(name_draft_model(data))


def _draft(data: dict[str, Any], draft_tokens: int) -> None:
    speculation = data.get("speculation")
    if not isinstance(speculation, dict):
        raise InvalidInput("--draft-tokens is given and no drafter drafts; add --drafter")
    speculation.pop("policy", None)
    speculation["max_draft_tokens"] = draft_tokens


def _load(data: dict[str, Any], options: ShortOptions) -> None:
    rate, clients = options.rate_per_s, options.concurrency
    if rate is not None and clients is not None:
        raise InvalidInput("--rate and --concurrency both say what arrives; give one of them")
    if rate is None and clients is None:
        return
    workload = section(data, "workload")
    before = workload.pop("arrivals", None)
    if clients is not None:
        for key in ("rate_per_s", "speed"):
            workload.pop(key, None)
        workload["arrivals"] = {"kind": "closed_loop", "concurrency": clients}
    elif workload.get("kind") == "trace":
        workload.pop("speed", None)
        workload["rate_per_s"] = rate
    elif isinstance(before, dict) and before.get("kind") in ("gamma", "diurnal"):
        workload["arrivals"] = before | {"rate_per_s": rate}
    else:
        workload["arrivals"] = {"kind": "poisson", "rate_per_s": rate}


def _lengths(data: dict[str, Any], options: ShortOptions) -> None:
    given = {"prompt": options.prompt_tokens, "output": options.output_tokens}
    given = {side: tokens for side, tokens in given.items() if tokens is not None}
    if not given:
        return
    workload = section(data, "workload")
    named = [one for one in workload.get("classes") or () if isinstance(one, dict) and one.get("lengths")]
    if workload.get("kind") == "trace" or named:
        raise InvalidInput(
            f"--{next(iter(given))} is given and the scenario's {'classes' if named else 'trace'} already say how "
            "long requests are; leave it out"
        )
    lengths = workload.get("lengths")
    suffix = "_mean" if isinstance(lengths, dict) and lengths.get("kind") == "lognormal" else "_tokens"
    if isinstance(lengths, dict) and lengths.get("kind") not in (None, "fixed", "lognormal"):
        lengths = None
    changed = {f"{side}{suffix}": tokens for side, tokens in given.items()}
    workload["lengths"] = (lengths or {"kind": "fixed"}) | changed


def _limit_s(latency: str, text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|)", text.strip().lower())
    seconds = float(match[1]) * (1e-3 if match[2] == "ms" else 1.0) if match else 0.0
    if not seconds:
        raise InvalidInput(f"--{latency}-p95 {shown(text)} is no time; write seconds (0.04) or milliseconds (40ms)")
    if match is not None and seconds > LONGEST_LIMIT_S[latency]:
        raise InvalidInput(
            f"--{latency}-p95 {shown(text)} is {seconds:g} seconds; write {match[1]}ms for milliseconds"
        )
    return seconds
