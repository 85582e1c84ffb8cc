"""Which drafters are worth comparing for a question, and the question with each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from specsim.errors import NoAnswer, SpecsimError
from specsim.interop.acceptance import AcceptanceRecord, law_of_logs
from specsim.scenario import Asked, Speculation
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance.origin import Origin
from specsim.speculation.policy import FixedPolicy

SERVED = ("eagle3", "mtp", "draft-model", "pard", "p-eagle", "dflash", "dspark", "ngram", "suffix")


def usual_drafters(named: str | None, model: ModelSpec) -> tuple[list[str], dict[str, str]]:
    """The one that a question names and those that engines serve, and which of these is left out and why."""
    names = [*([named] if named else []), *(name for name in SERVED if name != named)]
    if model.mtp_layers or named == "mtp":
        return names, {}
    names.remove("mtp")
    return names, {"mtp": f"{model.name} comes without MTP layers; add it with --drafters if you have trained some"}


def with_each(
    ask: Callable[[str], Asked], names: Sequence[str], left_out: Mapping[str, str]
) -> tuple[dict[str, Asked], dict[str, str]]:  # fmt: skip
    """The question with each drafter that makes one, by name, and why the others are left out.

    ``ask``: the question with a drafter. Raises NoAnswer where none makes one.
    """
    asked, why = dict[str, Asked](), dict(left_out)
    for name in names:
        try:
            asked[name] = ask(name)
        except SpecsimError as error:
            why[name] = str(error)
    if not asked:
        raise NoAnswer(f"no drafter fits: {'; '.join(why.values())}")
    return asked, why


def accepting_as_logged(asked: Asked, records: Sequence[AcceptanceRecord], source: str) -> Asked:
    """The question with the acceptance that logs tell, drafting as far as they reach; as it is without a drafter."""
    before = asked.scenario.speculation
    if before is None:
        return asked
    chosen = law_of_logs(records).chosen
    fitted = Speculation(
        program=before.program, draft_model=before.draft_model, max_draft_tokens=chosen.draft_tokens,
        acceptance=chosen.law, acceptance_origin=Origin(source=source), policy=FixedPolicy(k=chosen.draft_tokens),
    )  # fmt: skip
    return replace(asked, scenario=asked.scenario.model_copy(update={"speculation": fitted}))
