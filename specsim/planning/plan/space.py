"""What a plan may choose from, and each choice as the scenario of one replica."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from pydantic import ValidationError

from specsim.assembly import Assembly
from specsim.errors import NoAnswer, SpecsimError
from specsim.planning.longer import with_policy
from specsim.planning.plan.schedule import schedule_of
from specsim.scenario import Scenario, Speculation
from specsim.specs.deployment import Deployment, Disaggregation, KvLink
from specsim.specs.faults import explain
from specsim.specs.hardware import Hardware
from specsim.speculation.policy import FixedPolicy


@dataclass(frozen=True, slots=True)
class DrafterChoice:
    """A drafter as a scenario's fields state it, and the draft lengths to try."""

    name: str
    fields: Mapping[str, Any]
    draft_tokens: tuple[int, ...]

    def stated(self, draft_tokens: int) -> dict[str, Any]:
        """The fields with a draft length."""
        return dict(self.fields) | {"max_draft_tokens": draft_tokens}


@dataclass(frozen=True, slots=True)
class Space:
    """All combinations of these. ``data_parallel`` above 1: replicas that share their experts.

    ``schedules``: beside single draft lengths, those by batch size that ``tune`` finds for each drafter and place.
    ``usd_per_gpu_hour``: by the hardware's name; None: GPUs count. ``kv_link``: between pools.
    """

    gpus: tuple[Hardware, ...]
    tensor_parallel: tuple[int, ...]
    drafters: tuple[DrafterChoice | None, ...] = (None,)
    data_parallel: tuple[int, ...] = (1,)
    weight_bits: tuple[float | None, ...] = (None,)
    kv_bits: tuple[float, ...] = (16,)
    disaggregated: tuple[bool, ...] = (False,)
    usd_per_gpu_hour: Mapping[str, float] | None = None
    kv_link: KvLink = field(default_factory=KvLink)
    schedules: bool = False

    def speculations(self) -> tuple[Speculation, ...]:
        """The drafters, each at the longest draft that it can have."""
        found = []
        for one in filter(None, self.drafters):
            for draft_tokens in sorted(one.draft_tokens, reverse=True):
                with suppress(ValidationError):
                    found.append(Speculation.model_validate(one.stated(draft_tokens)))
                    break
        return tuple(found)


class OptionKind(NamedTuple):
    """What sets rows of an answer apart: the best of each is looked for."""

    gpu: str
    speculation: bool
    disaggregated: bool
    weight_bits: float | None
    kv_bits: float


@dataclass(frozen=True, slots=True)
class ServingOption:
    """One way to serve. ``scenario`` is that of the fewest replicas: one, those that share experts, or two pools."""

    kind: OptionKind
    drafter: str | None
    scenario: Scenario
    usd_per_gpu_hour: float | None

    @property
    def deployment(self) -> Deployment:
        return self.scenario.deployment

    @property
    def unit(self) -> int:
        """Replicas that can be added at once."""
        return self.deployment.data_parallel

    @property
    def unit_usd(self) -> float:
        """Of a replica an hour; without prices, its GPUs."""
        each = 1.0 if self.usd_per_gpu_hour is None else self.usd_per_gpu_hour
        return each * self.deployment.tensor_parallel

    @property
    def draft_tokens(self) -> int:
        speculation = self.scenario.speculation
        return 0 if speculation is None else speculation.max_draft_tokens

    @property
    def drafts(self) -> str:
        """``eagle3 k=3``, ``eagle3 k up to 7`` where a policy decides, or off."""
        speculation = self.scenario.speculation
        if self.drafter is None or speculation is None:
            return "off"
        return f"{self.drafter} {'k=' if speculation.policy.kind == 'fixed' else 'k up to '}{self.draft_tokens}"

    def usd(self, replicas: int) -> float:
        """An hour of so many replicas; without prices, GPUs."""
        return self.unit_usd * replicas

    def sized(self, replicas: int, prefill: int = 0) -> Deployment:
        """So many replicas; with ``prefill`` of them, the others decode."""
        if not prefill:
            return self.deployment.model_copy(update={"replicas": replicas})
        pools = self.deployment.disaggregation
        assert pools is not None
        update = {"prefill_replicas": prefill, "decode_replicas": replicas - prefill}
        divided = pools.model_copy(update=update)
        return self.deployment.model_copy(update={"replicas": replicas, "disaggregation": divided})

    def describe(self) -> str:
        """In a few words."""
        return f"{self._place()} {self.drafts}"

    def describe_without_k(self) -> str:
        """In a few words, for all draft lengths."""
        return f"{self._place()} {self.drafter or 'off'}"

    def _place(self) -> str:
        deployment = self.deployment
        parts = [self.kind.gpu, f"TP {deployment.tensor_parallel}"]
        if deployment.data_parallel > 1:
            parts.append(f"DP {deployment.data_parallel}")
        if self.kind.weight_bits is not None:
            parts.append(f"{self.kind.weight_bits:g}-bit weights")
        if self.kind.kv_bits != 16:
            parts.append(f"{self.kind.kv_bits:g}-bit KV")
        if self.kind.disaggregated:
            parts.append("P/D")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A choice that is no answer, and why; ``draft_tokens`` None: off, or whatever is drafted."""

    what: str
    draft_tokens: int | None
    why: str

    @classmethod
    def of(cls, candidate: ServingOption, why: str) -> Exclusion:
        speculation = candidate.scenario.speculation
        if speculation is not None and speculation.policy.kind != "fixed":
            return cls(candidate.describe(), None, why)
        return cls(candidate.describe_without_k(), candidate.draft_tokens or None, why)


def candidates(scenario: Scenario, space: Space) -> tuple[list[ServingOption], list[Exclusion]]:
    """Every choice that fits its GPUs, and the others with the reason."""
    found, excluded = [], list[Exclusion]()
    for place in _places(space):
        sized, reason = _placed(scenario, place)
        if sized is None:
            excluded.append(Exclusion(place.describe(), None, reason))
            continue
        for drafter in space.drafters:
            made, others = _with_drafter(sized, place, drafter, space)
            found += made
            excluded += others
    return found, excluded


class _Place(NamedTuple):
    """A model's place on hardware."""

    gpu: Hardware
    tensor_parallel: int
    data_parallel: int
    weight_bits: float | None
    kv_bits: float
    pools: Disaggregation | None

    def describe(self) -> str:
        shared = f" DP {self.data_parallel}" if self.data_parallel > 1 else ""
        bits = "" if self.weight_bits is None else f" {self.weight_bits:g}-bit weights"
        return f"{self.gpu.name} TP {self.tensor_parallel}{shared}{bits}"


def _places(space: Space) -> Iterator[_Place]:
    choices = product(
        space.gpus, space.tensor_parallel, space.data_parallel, space.weight_bits, space.kv_bits, space.disaggregated
    )
    for gpu, ranks, shared, weight_bits, kv_bits, divided in choices:
        link = Disaggregation(prefill_replicas=shared, decode_replicas=shared, kv_link=space.kv_link)
        yield _Place(gpu, ranks, shared, weight_bits, kv_bits, link if divided else None)


def _placed(scenario: Scenario, place: _Place) -> tuple[Scenario | None, str]:
    """The scenario of one unit without a drafter; or None and why not."""
    ranks, gpu = place.tensor_parallel, place.gpu
    if ranks > gpu.node_gpus:
        return None, f"{ranks} GPUs are more than a node's {gpu.node_gpus}"
    own = scenario.deployment
    deployment = own.model_dump(exclude={"replicas", "replicas_without_speculation", "disaggregation"}) | {
        "tensor_parallel": ranks,
        "data_parallel": place.data_parallel,
        "weight_bits": place.weight_bits,
        "kv_bits": place.kv_bits,
        "expert_parallel": own.expert_parallel or place.data_parallel > 1,
    }
    if not gpu.computes_16_bit_floats:
        del deployment["weight_bits"], deployment["kv_bits"]
    counted = {"replicas": place.data_parallel} if place.pools is None else {"disaggregation": place.pools}
    changed = {"gpu": gpu, "deployment": deployment | counted, "speculation": None, "conditions": None}
    if gpu.name != scenario.gpu.name:
        changed["cost"] = scenario.cost.model_copy(update={"profile": None})
    return _built(scenario, changed)


def _built(scenario: Scenario, changed: Mapping[str, Any]) -> tuple[Scenario | None, str]:
    """The scenario with changes, validated; or None and what it breaks."""
    fields = {name: getattr(scenario, name) for name in Scenario.model_fields}
    try:
        return Scenario.model_validate(fields | dict(changed)), ""
    except ValidationError as error:
        return None, explain(error, Scenario)


def _with_drafter(
    placed: Scenario, place: _Place, drafter: DrafterChoice | None, space: Space
) -> tuple[list[ServingOption], list[Exclusion]]:
    """One candidate a draft length; those that do not fit are excluded."""
    found, excluded = list[ServingOption](), list[Exclusion]()
    usd = None if space.usd_per_gpu_hour is None else space.usd_per_gpu_hour[place.gpu.name]
    kind = OptionKind(place.gpu.name, drafter is not None, place.pools is not None, place.weight_bits, place.kv_bits)
    name = None if drafter is None else drafter.name
    drafting = list[Scenario]()
    for k in (0,) if drafter is None else drafter.draft_tokens:
        scenario, why = (placed, "") if drafter is None else _drafting(placed, drafter, k)
        if scenario is None:
            excluded.append(Exclusion(f"{place.describe()} {name}", k, why))
            continue
        candidate = ServingOption(kind, name, scenario, usd)
        why = _misfit(scenario)
        if not why:
            found.append(candidate)
            drafting.append(scenario)
        else:
            excluded.append(Exclusion.of(candidate, why))
    if space.schedules and drafter is not None and drafting:
        found += [ServingOption(kind, name, one, usd) for one in _scheduled(drafting[-1])]
    return found, excluded


def _scheduled(longest: Scenario) -> list[Scenario]:
    """The scenario that drafts most with the schedule that is best by formula; none where it has a policy already."""
    speculation = longest.speculation
    assert speculation is not None
    policy = schedule_of(longest) if isinstance(speculation.policy, FixedPolicy) else None
    return [] if policy is None else [with_policy(longest, policy)]


def _drafting(placed: Scenario, drafter: DrafterChoice, draft_tokens: int) -> tuple[Scenario | None, str]:
    fields = drafter.stated(draft_tokens)
    try:
        speculation = Speculation.model_validate(fields)
    except ValidationError as error:
        return None, explain(error, Speculation)
    return _built(placed, {"speculation": speculation})


def _misfit(scenario: Scenario) -> str:
    """Why the models or one request of mean length do not fit the GPUs; nothing where they do."""
    machine = Assembly(scenario)
    try:
        room = machine.longest_cached
    except NoAnswer as error:
        return f"does not fit: {str(error).split(': ', 1)[-1].split(';')[0]}"
    except SpecsimError as error:
        return str(error)
    needed = sum(scenario.workload.mean_lengths())
    return "" if needed <= room else f"does not fit: its KV cache holds {room} tokens, a request {needed:.0f}"
