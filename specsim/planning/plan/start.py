"""The command that starts a replica of a plan's answer."""

from __future__ import annotations

from specsim.errors import NoAnswer
from specsim.interop.engine_config import EngineText
from specsim.planning.command import FILE, command_line
from specsim.planning.engine_text import engine_named, engine_text
from specsim.planning.plan.choose import Option
from specsim.speculation.policy import FixedPolicy, TablePolicy


def replica_command(option: Option) -> EngineText | None:
    """The command, the files it names, and what it leaves to the reader.

    None for pools, which no single command starts, and for engines or policies that no text is written for.
    """
    scenario = option.candidate.scenario.model_copy(update={"deployment": option.size.deployment})
    engine, speculation = engine_named(scenario.engine.kind), scenario.speculation
    if engine is None or option.candidate.kind.disaggregated:
        return None
    text = EngineText("")
    if speculation is not None:
        policy = speculation.policy
        if not isinstance(policy, FixedPolicy | TablePolicy):
            return None
        try:
            text = engine_text(scenario, policy, engine)
        except NoAnswer as error:
            return EngineText("", notes=(str(error),))
    command, notes = command_line(scenario, engine, text.text)
    files = dict(text.files) | ({FILE: text.text} if engine == "tensorrt-llm" and text.text else {})
    return EngineText(command, files, (*text.notes, *notes))
