"""What a serving engine's configuration says about speculation, in no engine's own words.

Answers the same question for every engine: which drafter, how many tokens it drafts at which batch size, which
acceptance is imposed, which limits the scheduler keeps. One module an engine reads its text into an EngineConfig and
writes one back; ``speculation_fields`` and ``config_from_fields`` are the way to and from a scenario.

What an engine's text says and this object cannot hold stays in ``kept`` and in ``notes``, one line each, for the
caller to show.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from specsim.errors import NoAnswer
from specsim.named_files import is_file
from specsim.specs.catalog import model_names
from specsim.specs.engine import EngineLimits
from specsim.specs.yaml_file import build
from specsim.speculation.policy import FixedPolicy, OffAbovePolicy, Policy, TablePolicy, TieredPolicy
from specsim.speculation.program import load_program, program_names
from specsim.validated import Share, Validated

RealEngineKind = Literal["vllm", "sglang", "tensorrt-llm"]
Method = Literal[
    "draft_model", "pard", "ngram", "ngram_gpu", "eagle", "eagle3", "p_eagle", "mtp", "medusa", "mlp_speculator",
    "suffix", "suffix_automaton", "dflash", "dspark",
]  # fmt: skip
BatchSteps = tuple[tuple[int, int], ...]


class EagleTree(Validated):
    """EAGLE-2's tree: ``num_steps`` levels of ``topk`` branches, ``num_draft_tokens`` verified with the root."""

    topk: PositiveInt
    num_steps: PositiveInt
    num_draft_tokens: int = Field(ge=2)


class EngineConfig(Validated):
    """One engine's speculation.

    ``engine``: whose text it was and whose keys ``kept`` holds; None for an object that specsim made.
    ``num_speculative_tokens``: drafts of a round at most; None: the engine takes it from the draft checkpoint.
    ``policy``: None drafts ``num_speculative_tokens`` at every batch size. ``prompt_lookup``: shortest and longest
    n-gram looked up. ``acceptance_rates``: imposed for a benchmark, unconditional, position 1 first. ``limits``:
    fields of EngineLimits that the text states. ``graph_batch_sizes``: batch sizes with a captured decode graph.
    """

    smallest: ClassVar[float] = 0.0

    engine: RealEngineKind | None = None
    method: Method
    draft_model: str | None = None
    num_speculative_tokens: PositiveInt | None = None
    policy: Policy | None = None
    prompt_lookup: tuple[PositiveInt, PositiveInt] | None = None
    tree: EagleTree | None = None
    acceptance_rates: tuple[Share, ...] | None = None
    limits: dict[str, Any] = Field(default_factory=dict)
    graph_batch_sizes: tuple[PositiveInt, ...] | None = None
    kept: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> EngineConfig:
        k, rates = self.num_speculative_tokens, self.acceptance_rates
        longest = None if self.policy is None else self.policy.longest
        if k is not None and longest is not None and longest > k:
            raise ValueError(f"the schedule drafts up to {longest} tokens and num_speculative_tokens is {k}; raise it")
        if rates is not None and any(after > before for before, after in pairwise(rates)):
            raise ValueError(f"acceptance rates {list(rates)} rise; position i counts the drafts accepted up to i")
        if rates is not None and self.tree is None and len(rates) < (longest or k or 0):
            raise ValueError(f"there are {len(rates)} acceptance rates for {longest or k} drafts; give one a draft")
        if self.prompt_lookup is not None and self.prompt_lookup[0] > self.prompt_lookup[1]:
            raise ValueError(
                "prompt_lookup_min {} is above prompt_lookup_max {}; swap them".format(*self.prompt_lookup)
            )
        build(EngineLimits, self.limits, where="the limits")
        return self

    def steps(self) -> BatchSteps:
        """(first batch, k) wherever k changes, from batch 1. Raises NoAnswer where batch size alone does not fix k."""
        if self.policy is not None:
            return policy_steps(self.policy)
        if self.num_speculative_tokens is None:
            raise NoAnswer("the text leaves the draft length to the engine; state it")
        return ((1, self.num_speculative_tokens),)

    def draft_tokens(self, batch: int) -> int:
        """Tokens drafted at this batch size; raises NoAnswer as ``steps`` does."""
        return [k for first, k in self.steps() if first <= batch][-1]


@dataclass(frozen=True, slots=True)
class EngineText:
    """Text to paste, files it names (name: content), and what it could not say, a line each."""

    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def policy_steps(policy: Policy) -> BatchSteps:
    """(first batch, k) wherever a policy's draft length changes. ``[[1, 4, 3], [9, 9, 0]]`` gives ((1, 3), (9, 0)).

    Raises NoAnswer where batch size alone does not fix k.
    """
    firsts = {1}
    if isinstance(policy, TieredPolicy):
        for tier in policy.tiers:
            if len(tier.choices) > 1:
                raise NoAnswer(
                    f"from batch {tier.first_batch} on acceptance chooses among drafts of "
                    f"{', '.join(map(str, tier.choices))}; give one draft length for each batch size"
                )
        return merged_steps([(tier.first_batch, tier.choices[0]) for tier in policy.tiers])
    if isinstance(policy, OffAbovePolicy):
        firsts.add(policy.max_batch + 1)
    elif isinstance(policy, TablePolicy):
        firsts.update(first for first, _, _ in policy.ranges)
    elif not isinstance(policy, FixedPolicy):
        raise NoAnswer(
            f"a policy of kind {policy.kind!r} is no batch-size schedule, which engines take; specsim tune writes one"
        )
    return merged_steps([(batch, policy.draft_tokens(batch)) for batch in sorted(firsts)])


def merged_steps(points: Sequence[tuple[int, int]]) -> BatchSteps:
    """Only the points at which k differs from the one before."""
    return tuple(point for i, point in enumerate(points) if i == 0 or point[1] != points[i - 1][1])


def steps_ranges(steps: BatchSteps, last_batch: int | None = None) -> list[tuple[int, int, int]]:
    """[first, last, k] ranges of steps.

    The last range, which has no end, is closed at ``last_batch`` or at its own first batch.
    """
    ends = [first - 1 for first, _ in steps[1:]] + [max(steps[-1][0], last_batch or 1)]
    return [(first, end, k) for (first, k), end in zip(steps, ends, strict=True)]


def steps_policy(steps: BatchSteps, last_batch: int | None = None) -> FixedPolicy | TablePolicy:
    """The policy of steps, a table only where k changes; ``last_batch`` as of ``steps_ranges``."""
    if len(steps) == 1:
        return FixedPolicy(k=steps[0][1])
    return TablePolicy(ranges=tuple(steps_ranges(steps, last_batch)))


def used_steps(config: EngineConfig, engine: str) -> BatchSteps:
    """The steps to write; raises NoAnswer for a policy that never drafts, which no engine accepts."""
    steps = config.steps()
    if not any(k for _, k in steps):
        raise NoAnswer(f"the policy drafts nothing at any batch size; start {engine} without speculation")
    return steps


def kept_notes(kept: Collection[str], known: Collection[str], engine: str) -> tuple[str, ...]:
    """One line on keys that cost or acceptance may depend on, and one on keys that the engine itself does not know."""
    lines = []
    if modelled := sorted(set(kept) & set(known)):
        lines.append(f"kept, and not modelled: {', '.join(modelled)}")
    for key in sorted(set(kept) - set(known)):
        near = get_close_matches(key, sorted(known), n=1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else ""
        lines.append(f"kept, and unknown to {engine}: {key}{hint}")
    return tuple(lines)


def left_out_notes(config: EngineConfig, engine: RealEngineKind, *facts: str) -> tuple[str, ...]:
    """Which keys of another engine, and which of these stated fields, this engine's text cannot say."""
    lost = [name for name in facts if getattr(config, name) is not None]
    lines = [f"{engine} has no setting for {name}; left out" for name in lost]
    if config.kept and config.engine not in (None, engine):
        lines.append(f"left out, {config.engine}'s own: {', '.join(sorted(config.kept))}")
    return tuple(lines)


def mean_length_rates(acceptance_length: float, num_speculative_tokens: int) -> tuple[float, ...]:
    """Unconditional rates of a mean acceptance length (bonus included) with the least variance.

    Every round accepts the whole part and a fraction of them one more; both vLLM's ``synthetic_acceptance_length`` and
    SGLang's ``match-expected`` do so. 2.5 over 3 drafts: (1, 0.5, 0).
    """
    return tuple(min(1.0, max(0.0, acceptance_length - i)) for i in range(1, num_speculative_tokens + 1))


def speculation_fields(config: EngineConfig) -> dict[str, Any]:
    """The ``speculation`` mapping of a scenario, ``acceptance`` only where the config imposes one.

    Raises NoAnswer for a drafter without a bundled program, and a draft length that the text leaves open.
    """
    policy = config.policy or steps_policy(config.steps())
    fields: dict[str, Any] = {
        "program": _program(config),
        "max_draft_tokens": config.num_speculative_tokens or policy.longest,
        "policy": policy.model_dump(mode="json"),
    }
    if load_program(_program_name(config.method)).needs_draft_model and config.draft_model is not None:
        fields["draft_model"] = _draft_model(config.draft_model)
    if config.prompt_lookup is not None:
        fields["prompt_lookup"] = list(config.prompt_lookup)
    if config.acceptance_rates is not None:
        fields["acceptance"] = {"kind": "conditional", "rates": list(_conditional(config.acceptance_rates))}
    return fields


def config_from_fields(
    speculation: Mapping[str, Any], engine: Mapping[str, Any], *, draft_model: str | None = None
) -> EngineConfig:
    """The config of a scenario's ``speculation`` and ``engine`` mappings, as written or dumped.

    ``draft_model`` is the checkpoint that the engine shall load (an id or a path), by default the scenario's name for
    it. Acceptance is left out: it is a prediction, and an engine told to impose it would emit wrong text. Raises
    NoAnswer for a program that no engine has.
    """
    program, draft = speculation["program"], speculation.get("draft_model")
    name = Path(program).stem if isinstance(program, str) else program["name"]
    methods = {_plain(method): method for method in Method.__args__}  # type: ignore[attr-defined]
    if _plain(name) not in methods:
        raise NoAnswer(f"program {name!r} is none of the engines' methods ({', '.join(methods.values())})")
    reference = draft_model or (draft["name"] if isinstance(draft, Mapping) else draft)
    limits = {key: value for key, value in engine.items() if value is not None}
    fields = {
        "method": methods[_plain(name)],
        "draft_model": reference,
        "policy": speculation.get("policy"),
        "num_speculative_tokens": speculation["max_draft_tokens"] or None,
        "prompt_lookup": speculation.get("prompt_lookup"),
        "limits": limits,
    }
    return build(EngineConfig, fields, where="the scenario")


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _program(config: EngineConfig) -> str | dict[str, Any]:
    """The bundled program's name; for a tree that program's content, its tree replaced by the configured one."""
    if config.tree is None:
        return _program_name(config.method)
    name, tree = f"{_program_name(config.method)}-tree", config.tree
    if name not in program_names():
        raise NoAnswer(f"method {config.method!r} has no bundled tree program; set topk 1 for a chain")
    nodes = tree.num_draft_tokens - 1
    shape = {"nodes": nodes, "depth": tree.num_steps, "top_k": tree.topk, "budgets": [nodes]}
    content = load_program(name).model_dump(mode="json", exclude_none=True, exclude={"figures", "unknown"})
    return content | {"name": f"{name}-{nodes}", "proposal": {"kind": "dynamic_tree"} | shape, "draft_tokens": nodes}


def _program_name(method: str) -> str:
    names = program_names()
    found = [name for name in names if _plain(name) == _plain(method)]
    if not found:
        raise NoAnswer(
            f"method {method!r} has no bundled draft program (there are {', '.join(names)}); "
            "write one as YAML and set speculation.program to its path"
        )
    return found[0]


def _draft_model(reference: str) -> str:
    """What a scenario can load for a checkpoint: its config.json, else the preset of the same name, else its id."""
    config = f"{reference}/config.json"
    if is_file(config):
        return config
    name = reference.rstrip("/").split("/")[-1].lower()
    return name if name in model_names() else reference


def _conditional(rates: tuple[float, ...]) -> tuple[float, ...]:
    """a_i = r_i / r_(i-1), 0 where nothing is left to condition on."""
    before = (1.0, *rates)
    return tuple(rate / prior if prior > 0 else 0.0 for prior, rate in zip(before, rates, strict=False))
