"""The words that a question is asked in: those of the command line's short options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypedDict, Unpack

from specsim.api.arguments import WrongType, checked
from specsim.errors import InvalidInput, kind_of, shown, unknown_name
from specsim.scenario import Asked, Scenario, ShortOptions
from specsim.scenario import ask as ask_short
from specsim.scenario import load_scenario as load_scenario_of

ScenarioLike = Scenario | Asked | str | Path | None  # None: the words alone


class QuestionOptions(TypedDict, total=False):
    """A question in a dozen words; each overrides the scenario that it is given with.

    ``model``: a bundled or hub name, or a config.json. ``gpu``: a name, with how many (``4x h100``) if wished.
    ``tp``: GPUs that share each layer. ``drafter``: a technique (``eagle-3``), a draft model (``qwen3-0.6b``), a
    head's folder, ``off``. ``draft_tokens``: drafts a round at most. ``rate``: requests/s, Poisson. ``concurrency``:
    closed-loop clients instead. ``prompt``, ``output``: tokens of a request. ``ttft_p95``, ``tpot_p95``, ``e2e_p95``:
    limits of 95th percentiles, seconds or texts such as ``40ms``. ``engine``: vllm, sglang or tensorrt-llm, with a
    version if wished (``vllm 0.24``). ``set``: any field of a scenario, by path: ``{"engine.max_num_seqs": 64}``.
    """

    model: str
    gpu: str
    tp: int
    drafter: str
    draft_tokens: int
    rate: float
    concurrency: int
    prompt: int
    output: int
    ttft_p95: float | str
    tpot_p95: float | str
    e2e_p95: float | str
    engine: str
    set: Mapping[str, Any]


FIELDS = {"tp": "tensor_parallel", "rate": "rate_per_s", "prompt": "prompt_tokens", "output": "output_tokens"}
load_scenario = checked(load_scenario_of)
TEXTS = ("ttft_p95", "tpot_p95", "e2e_p95")
WHOLE = ("tp", "draft_tokens", "concurrency", "prompt", "output")


@checked
def ask(scenario: ScenarioLike = None, **words: Unpack[QuestionOptions]) -> Asked:
    """The question of a scenario (a YAML path or a bundled name), or of words alone, or of words over a scenario.

    Its ``scenario`` is what is asked, every default resolved; its ``assumed`` names what had to be assumed. Raises
    InvalidInput: an unknown word or name, a missing file, a value that breaks a rule.

    >>> asked = specsim.ask(model="llama-3.3-70b", gpu="h100", drafter="eagle-3", concurrency=16)
    >>> asked.scenario
    <Scenario llama-3.3-70b-on-h100-sxm: Llama-3.3-70B on 4x H100-SXM, eagle3 k=3>
    >>> asked.assumed[0]
    'tensor parallel 4, the fewest GPUs of whose memory weights take 70% at most'
    """
    if isinstance(scenario, Scenario):
        if words:
            raise InvalidInput(
                f"{next(iter(words))} is given with a finished Scenario; give the words to specsim.ask, or a YAML path"
            )
        return Asked(scenario, (), {})
    if isinstance(scenario, Asked) and not words:
        return scenario
    unknown = [
        fault
        for word in sorted(words.keys() - QuestionOptions.__annotations__.keys())
        for fault in unknown_name("word", word, QuestionOptions.__annotations__).faults
    ]
    options, wrong = _options(words)
    settings, wrong_settings = _settings(words.get("set", {}))
    wrong = {**wrong, **wrong_settings}
    try:
        asked = _asked(scenario, ShortOptions(**options), settings)
    except InvalidInput as error:
        follows = any(word in wrong for word in ("model", "gpu"))  # without them, nothing else can be looked at
        faults = [*unknown, *wrong.values(), *(() if follows else error.faults)]
    else:
        faults = [*unknown, *wrong.values()]
    if faults:
        raise (WrongType if wrong else InvalidInput)(*faults)
    return asked


def _asked(scenario: Asked | str | Path | None, options: ShortOptions, settings: list[str]) -> Asked:
    if isinstance(scenario, Asked):
        asked = ask_short(None, options, settings, start=deepcopy(scenario.fields))
        return Asked(asked.scenario, (*scenario.assumed, *asked.assumed), asked.fields)
    return ask_short(None if scenario is None else str(scenario), options, settings)


def _options(words: QuestionOptions) -> tuple[dict[str, Any], dict[str, str]]:
    """Under the names of ShortOptions; and by word, what is wrong with those of the wrong kind."""
    found: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for word, value in words.items():
        if word == "set" or word not in QuestionOptions.__annotations__ or value is None:
            continue
        number = isinstance(value, Real) and not isinstance(value, bool)
        if word in WHOLE and not (isinstance(value, Integral) and number and int(value) > 0):
            faults[word] = f"{word} is {shown(value)}; give a whole number of 1 or more"
        elif word == "rate" and not number:
            faults[word] = f"rate is {shown(value)}, {kind_of(value)}; give requests per second, a number"
        elif word not in (*WHOLE, "rate") and not isinstance(value, str) and not (word in TEXTS and number):
            wanted = "seconds or text" if word in TEXTS else "text"
            faults[word] = f"{word} is {shown(value)}, {kind_of(value)}; give {wanted}"
        else:
            found[FIELDS.get(word, word)] = _plain(word, value)
    return found, faults


def _plain(word: str, value: Any) -> Any:
    return f"{value}" if word in TEXTS else int(value) if word in WHOLE else value


def _settings(fields: object) -> tuple[list[str], dict[str, str]]:
    """As ``--set`` is written: JSON is YAML; and what is wrong with those that cannot be."""
    if not isinstance(fields, Mapping):
        told = f"set is {shown(fields)}, {kind_of(fields)}; give fields by path, for instance {{'seed': 1}}"
        return [], {"set": told}
    found, faults = list[str](), dict[str, str]()
    for path, value in fields.items():
        try:
            found.append(f"{path}={json.dumps(value)}")
        except (TypeError, ValueError) as error:
            faults[f"set {path}"] = f"set {shown({path: value})}: {error}; give numbers, text, lists and dicts"
    return found, faults
