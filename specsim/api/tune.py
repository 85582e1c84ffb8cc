"""``specsim.tune``: the batch -> k schedule of a question, as an engine takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

from specsim.api.arguments import checked
from specsim.api.words import QuestionOptions, ScenarioLike, ask
from specsim.assembly import assemble
from specsim.errors import unknown_name
from specsim.interop.engine_config import RealEngineKind
from specsim.planning.decide import Decision, decide
from specsim.planning.engine_text import rule_of
from specsim.planning.longer import longest_worth_trying
from specsim.planning.tune import tune as find


@checked
def tune(
    scenario: ScenarioLike = None,
    *,
    target: RealEngineKind | None = None,
    batches: Sequence[int] | None = None,
    prefer: Literal["throughput", "sure"] = "throughput",
    tolerance: float = 0.01,
    draft_model: str | None = None,
    simulate: bool = True,
    **words: Unpack[QuestionOptions],
) -> Decision:
    """The best draft length at every batch size, confirmed under the load, ready to paste.

    ``target``: whose text (``--for`` of the command line): vllm, sglang or tensorrt-llm; None: the question's engine.
    ``prefer``: highest throughput, or only what the 90 % interval says is sure to pay. ``tolerance``: share of
    throughput to give up for fewer ranges. ``draft_model``: the checkpoint to name. ``simulate``: also serve the load
    with off, every single k and the schedule, and choose among them. ``words``: as of ``specsim.ask``. Where nothing
    pays, ``policy.longest`` is 0 and ``off_line()`` says why. Raises InvalidInput, and NoAnswer as ``predict`` does.

    >>> found = specsim.tune(model="llama-3.1-8b", gpu="h100", drafter="eagle-3", draft_tokens=3, concurrency=16,
    ...                      simulate=False, batches=[1, 4, 16, 64, 256])
    >>> found.command.startswith("vllm serve meta-llama/Llama-3.1-8B")
    True
    >>> found.policy.draft_tokens(batch=1)
    3
    """
    asked = ask(scenario, **words)
    if target is not None and target not in get_args(RealEngineKind):
        raise unknown_name("engine", str(target), get_args(RealEngineKind))
    kind, known = asked.scenario.engine.kind, get_args(RealEngineKind)
    engine: RealEngineKind = next((one for one in known if one == (target or kind)), "vllm")
    question = longest_worth_trying(asked.scenario, asked.fields).run_by(engine)
    rule = rule_of(engine, question)
    tuning = find(assemble(question), rule=rule, batches=batches, prefer=prefer, tolerance=tolerance)
    return decide(question, engine, tuning, simulated=simulate, draft_model=draft_model)
