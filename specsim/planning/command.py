"""The whole command line that starts an engine as a scenario has it, and what its schedule does to graphs there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from specsim.interop.engine_config import EngineText, RealEngineKind, policy_steps
from specsim.scenario import Scenario
from specsim.specs.engine import EngineLimits
from specsim.specs.engine_defaults import load_engine, numbers
from specsim.specs.model import ModelSpec
from specsim.speculation.policy import FixedPolicy, TablePolicy

FILE = "speculation.yaml"  # that the text of TensorRT-LLM is kept in
_PARALLEL = {
    "vllm": ("--tensor-parallel-size", "--enable-expert-parallel", "--data-parallel-size"),
    "sglang": ("--tp-size", "--ep-size", "--dp-size"),
    "tensorrt-llm": ("--tp_size", "--ep_size", None),
}
_EIGHT_BIT_KV = {"vllm": "fp8", "sglang": "fp8_e4m3"}


def hub_name(model: ModelSpec) -> str | None:
    """The name on the hub that a bundled model's source cites first; None where it cites none."""
    cited = re.search(r"huggingface\.co/([\w.-]+/[\w.-]*\w)", model.source)
    return None if cited is None else cited[1]


def command_line(scenario: Scenario, engine: RealEngineKind, text: str) -> tuple[str, tuple[str, ...]]:
    """The command that starts one replica, with the speculation that ``text`` says, and what it leaves to the reader.

    For TensorRT-LLM ``text`` is YAML, which the command names as FILE.
    """
    model, notes = hub_name(scenario.model), list[str]()
    if model is None:
        model = f"YOUR-{scenario.model.name.upper()}"
        notes.append(f"replace {model} by the checkpoint's name or folder")
    words = {
        "vllm": ["vllm", "serve", model],
        "sglang": ["python", "-m", "sglang.launch_server", "--model-path", model],
        "tensorrt-llm": ["trtllm-serve", model],
    }[engine]
    words += _placement(scenario, engine) + _precision(scenario, engine, notes)
    if scenario.deployment.replicas > scenario.deployment.data_parallel:
        notes.append(f"start {scenario.deployment.replicas} of these behind a router: one is a replica")
    if engine == "tensorrt-llm":
        return shlex.join([*words, *(["--config", FILE] if text else [])]), tuple(notes)
    return " ".join([shlex.join(words), text]).strip(), tuple(notes)


def _placement(scenario: Scenario, engine: RealEngineKind) -> list[str]:
    deployment = scenario.deployment
    tensor, expert, data = _PARALLEL[engine]
    words = [tensor, str(deployment.tensor_parallel)] if deployment.tensor_parallel > 1 else []
    if deployment.expert_parallel:
        ranks = str(deployment.tensor_parallel * deployment.data_parallel)
        words += [expert] if engine == "vllm" else [expert, ranks]
    if data is not None and deployment.data_parallel > 1:
        words += [data, str(deployment.data_parallel)]
    return words


def _precision(scenario: Scenario, engine: RealEngineKind, notes: list[str]) -> list[str]:
    deployment, words = scenario.deployment, list[str]()
    if deployment.weight_bits == 8 and scenario.model.weight_bits > 8 and engine != "tensorrt-llm":
        words += ["--quantization", "fp8"]
    elif deployment.weight_bits is not None and deployment.weight_bits < scenario.model.weight_bits:
        notes.append(f"name a checkpoint with weights of {deployment.weight_bits:g} bits")
    if deployment.kv_bits == 8 and engine in _EIGHT_BIT_KV:
        words += ["--kv-cache-dtype", _EIGHT_BIT_KV[engine]]
    return words


def graph_notes(scenario: Scenario, policy: FixedPolicy | TablePolicy) -> tuple[str, ...]:
    """What a policy does to captured graphs in the scenario's engine at its version; all of it is priced."""
    speculation = scenario.speculation
    if speculation is None:
        return ()
    asked = [
        scenario.model_copy(update={"speculation": speculation.model_copy(update={"policy": one})}).engine
        for one in (FixedPolicy(k=policy.longest), policy)
    ]
    fixed, engine = asked
    notes = []
    if fixed.graph_mode != engine.graph_mode:
        notes.append(
            f"{engine.name} runs graph mode {engine.graph_mode} where k follows the batch size, {fixed.graph_mode} "
            f"with one k ({_why(scenario, engine.graph_mode)})"
        )
    sizes = engine.captured_sizes(policy.longest, on_gpu=scenario.gpu.kind == "gpu")
    if not sizes:
        return (*notes, f"{engine.name} captures no graphs here: every step is launched kernel by kernel")
    steps = policy_steps(policy)
    for (first, k), last in zip(steps, _ends(steps, engine.max_num_seqs), strict=True):
        covered = sizes[-1] // (1 + k)
        if covered < last:
            notes.append(
                f"captured graphs end at {sizes[-1]} tokens a step, thus at {max(covered, first - 1)} sequences with "
                f"{k} drafts; above, steps are launched kernel by kernel"
            )
            break
    if (matching := matching_sizes(engine, policy, sizes)) and engine.kind == "vllm":
        notes.append(f"capture sizes that match every k: --cudagraph-capture-sizes {' '.join(map(str, matching))}")
    return tuple(notes)


def matching_sizes(engine: EngineLimits, policy: FixedPolicy | TablePolicy, sizes: Sequence[int]) -> tuple[int, ...]:
    """The engine's own sizes and those of full steps of each k of a schedule; none where there is one k, or off.

    The engine adds sizes for its longest draft alone, so that steps of the others are padded.
    """
    steps = policy_steps(policy)
    if len({k for _, k in steps if k}) < 2:
        return ()
    found = set(sizes)
    for (first, k), last in zip(steps, _ends(steps, engine.max_num_seqs), strict=True):
        grid = (1, 2, 4, *range(8, 257, 8), *range(272, last + 1, 16))
        found |= {count * (1 + k) for count in grid if first <= count <= last and count * (1 + k) <= sizes[-1]}
    return tuple(sorted(found))


def _ends(steps: Sequence[tuple[int, int]], most: int) -> list[int]:
    """The last batch size of each step."""
    return [*(first - 1 for first, _ in steps[1:]), most]


def _why(scenario: Scenario, mode: str) -> str:
    """The source of the engine's rule for schedules."""
    engine = scenario.engine
    if engine.kind is None or engine.kind == "reference" or engine.version is None:
        return "its own rule"
    rules = [
        rule.source
        for rule in load_engine(engine.kind).rules
        if rule.when.schedules_by_batch
        and rule.set.get("graph_mode") == mode
        and numbers(rule.since or "0") <= numbers(engine.version) < numbers(rule.before or "9999")
    ]
    return rules[0] if rules else "its own rule"


def with_checkpoint(text: EngineText, placeholder: str | None) -> EngineText:
    """The text with a note of what to put in place of a placeholder."""
    if placeholder is None:
        return text
    note = f"replace {placeholder} by the drafter's checkpoint, a name on the hub or a folder (tune --draft-model)"
    return EngineText(text.text, text.files, (note, *text.notes))
