"""What prices a scenario: its profile, the prices of kernels, the cost of a step.

Costs and kernel prices are kept from one scenario to the next as long as nothing changes on which they depend: a
scenario under another load or seed, as replications, sweeps and the dashboard's sliders make it, prices nothing anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

from specsim.cost.borrowed import BorrowedPrices
from specsim.cost.conditioned import SAME_CONDITIONS_ERROR, ConditionedPrices
from specsim.cost.forward import KernelPrices, Precision
from specsim.cost.machine_error import drift
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.errors import InvalidInput
from specsim.profiles.store import Profile, find_profile, find_widths, load_profile
from specsim.scenario import Scenario
from specsim.specs.catalog import load_hardware
from specsim.specs.hardware import Hardware
from specsim.speculation.round import RoundCost, StepCost

KEPT = 32  # costs and kernel prices of other questions
# What a step's cost does not depend on: how drafts fare and who decides their length, and how replicas share a load.
_OF_DECISIONS = {"acceptance", "acceptance_origin", "policy"}
_OF_FLEETS = {"replicas", "disaggregation", "replicas_without_speculation", "router", "max_queue"}


def profile_of(scenario: Scenario) -> Profile | None:
    """The named profile, or what is known of this hardware, or of its sibling; None without any, and for the roofline.

    Raises InvalidInput for a profile of other hardware.
    """
    choice, gpu = scenario.cost, scenario.gpu
    if choice.source == "roofline":
        return None
    cards = (gpu.name,) if gpu.sibling is None or choice.source == "steps" else (gpu.name, gpu.sibling.card)
    if choice.profile is None:
        return next((profile for card in cards if (profile := find_profile(card)) is not None), None)
    profile = load_profile(choice.profile)
    if profile.header.gpu.lower() not in (card.lower() for card in cards):
        raise InvalidInput(
            f"profile {profile.name} was measured on {profile.header.gpu} and the scenario's gpu is {gpu.name}; "
            "choose a profile of that hardware or set cost.source to roofline"
        )
    return profile


def is_borrowed(profile: Profile, hardware: Hardware) -> bool:
    """Whether the profile is not of this hardware but of its sibling."""
    return profile.header.gpu.lower() != hardware.name.lower()


def precision_of(scenario: Scenario) -> Precision:
    """Bits and formats of the target's weights and cache."""
    deployment, model = scenario.deployment, scenario.model
    return Precision.on(scenario.gpu, deployment.stored or model.stored, deployment.kv_bits)


def kernel_prices(scenario: Scenario, profile: Profile | None) -> KernelPrices:
    """Prices of single kernels: the profile's, or the roofline's; in the scenario's conditions."""
    dtype, gpu = precision_of(scenario).dtype, scenario.gpu
    prices: KernelPrices = Roofline(gpu, dtype)
    if profile is not None:
        prices = _measured(profile, gpu.model_dump_json(), dtype)
    if scenario.conditions is None:
        return prices
    error = prices.machine_error if profile is None else math.hypot(drift(profile), SAME_CONDITIONS_ERROR)
    return ConditionedPrices(prices, scenario.conditions, gpu, dtype, error)


@lru_cache(maxsize=KEPT)
def _measured(profile: Profile, gpu: str, dtype: str) -> MeasuredPrices | BorrowedPrices:
    """``gpu``: the hardware's fields as JSON."""
    hardware, widths = Hardware.model_validate_json(gpu), find_widths(profile)
    if not is_borrowed(profile, hardware):
        return MeasuredPrices(profile, hardware, dtype, widths=widths)
    sibling = load_hardware(profile.header.gpu)
    return BorrowedPrices(MeasuredPrices(profile, sibling, dtype, widths=widths), sibling, hardware, dtype)


def step_cost(scenario: Scenario, profile: Profile | None) -> StepCost:
    """Prices of steps, the drafter loaded: of their kernels, or of whole steps measured.

    Raises InvalidInput where measured steps are asked for and there are none.
    """
    return _kept_cost(_Priced(_sections(scenario), profile, scenario))


def cost_content(scenario: Scenario, profile: Profile | None) -> str | None:
    """All that ``step_cost`` depends on but the code, as text; None where a profile is not in files alone."""
    if profile is None:
        return _sections(scenario)
    return f"{_sections(scenario)} {_content(profile)}" if profile.sha256 else None


def _sections(scenario: Scenario) -> str:
    """All of the scenario on which the cost of a step depends but the profile's content."""
    rest = scenario.model_dump_json(
        include={"model", "gpu", "cost", "conditions", "speculation", "deployment"},
        exclude={"speculation": _OF_DECISIONS, "deployment": _OF_FLEETS},
    )
    return rest + scenario.engine.model_dump_json()


@lru_cache(maxsize=KEPT)
def _content(profile: Profile) -> str:
    """Of a profile and of the one that stands in for what it lacks."""
    widths = find_widths(profile)
    return f"{profile.sha256} {widths and widths.sha256}"


@dataclass(frozen=True)
class _Priced:
    """What a cost depends on, and where it is made from."""

    sections: str
    profile: Profile | None
    scenario: Scenario = field(compare=False)


@lru_cache(maxsize=KEPT)
def _kept_cost(what: _Priced) -> StepCost:
    if what.scenario.cost.source == "steps":
        return _measured_steps(what.scenario, what.profile)
    return round_cost(what.scenario, kernel_prices(what.scenario, what.profile))


def round_cost(scenario: Scenario, prices: KernelPrices) -> StepCost:
    """A step's cost put together from its kernels, at these prices."""
    speculation = scenario.speculation
    return RoundCost(
        scenario.model,
        prices,
        hardware=scenario.gpu,
        engine=scenario.engine,
        precision=precision_of(scenario),
        ranks=scenario.deployment.tensor_parallel,
        experts=scenario.deployment.expert_group,
        program=speculation.program if speculation else None,
        draft=speculation.draft_model if speculation else None,
        max_draft_tokens=speculation.max_draft_tokens if speculation else 0,
    )


def _measured_steps(scenario: Scenario, profile: Profile | None) -> StepCost:
    from specsim.speculation.engine_steps import EngineSteps  # a slow import that other sources do without

    speculation = scenario.speculation
    if profile is None:
        raise InvalidInput(
            f"cost.source is steps and no profile of {scenario.gpu.name} is known; measure one with specsim "
            "profile steps, or set cost.profile"
        )
    if scenario.conditions is not None:
        raise InvalidInput(
            "conditions are given and cost.source is steps, which does not tell kernels apart; remove "
            "conditions, or set cost.source to kernels"
        )
    drafter = speculation.drafter_name() if speculation else "none"
    passes = speculation is not None and speculation.draft_model is not None
    return EngineSteps.of(profile, model=scenario.model.name, drafter=drafter, draft_model=passes)
