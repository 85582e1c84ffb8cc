"""A server as it is started, whichever engine's: model, engine, deployment and speculation in a scenario's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, SpecsimError, shown
from specsim.interop.command_line import Command, read_command
from specsim.interop.engine_config import EngineConfig, speculation_fields
from specsim.interop.pasted import server_call
from specsim.interop.server_flags import ReadFlags, flag_table, read_flags, spelled_out
from specsim.interop.sglang import read_sglang
from specsim.interop.tensorrt_llm import read_tensorrt_llm
from specsim.interop.vllm import read_vllm
from specsim.json_file import parse_json
from specsim.specs.catalog import model_names
from specsim.specs.formats import format_name
from specsim.specs.yaml_file import read_mapping
from specsim.specs.yaml_text import parse_yaml

_AT_START = {"fp8", "int8", "fp8_per_tensor", "fp8_per_block", "w8a8_fp8", "w8a8_int8", "mxfp8"}  # any model's weights
_TRTLLM_LIMITS = {
    "--max-batch-size": "max_num_seqs", "--max-num-tokens": "max_num_batched_tokens", "--max-seq-len": "max_model_len",
}  # fmt: skip
_GRAPH_MODES = {"FULL_AND_PIECEWISE", "FULL_DECODE_ONLY", "PIECEWISE", "NONE"}


@dataclass(frozen=True, slots=True)
class Server:
    """``engine`` and ``deployment`` are fields of a scenario's sections; ``speculation`` is None where it has none.

    ``notes``: every flag that set nothing, and why, a line each.
    """

    kind: str
    model: str | None
    engine: dict[str, Any] = field(default_factory=dict)
    deployment: dict[str, Any] = field(default_factory=dict)
    speculation: EngineConfig | None = None
    notes: tuple[str, ...] = ()

    def scenario_fields(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """(the sections of a scenario, what could not be said in them)."""
        fields: dict[str, Any] = {"model": self.model} if self.model is not None else {}
        fields["engine"] = {"kind": self.kind} | self.engine
        fields |= {"deployment": self.deployment} if self.deployment else {}
        if self.speculation is None:
            return fields, self.notes
        try:
            return fields | {"speculation": speculation_fields(self.speculation)}, self.notes
        except SpecsimError as error:
            return fields, (*self.notes, f"speculation left out: {error}")


def read_server(text: str) -> Server:
    """The server that a pasted command line, manifest, or TensorRT-LLM's YAML starts.

    Raises InvalidInput: no known server, a flag's value of another kind, speculation that the engine refuses.
    """
    if (content := _tensorrt_llm_yaml(text)) is not None:
        return _tensorrt_llm(content, None, {})
    kind, environment, words = server_call(text)
    if kind == "tensorrt-llm":
        return _trtllm_serve(environment, words)
    table = flag_table(kind)
    command = spelled_out(replace(read_command(words), environment=environment), table)
    found = read_flags(command, table)
    _GRAPHS[kind](command, found)
    _placement(kind, command, found)
    _precision(command, found)
    positional = words[1:2] if words[:1] == ["serve"] else words[:1]
    named = found.model or next((word for word in positional if not word.startswith("-")), None)
    config = _speculation(kind, command)
    if config is not None:
        found.notes += [note for note in config.notes if note not in found.notes]
    return Server(kind, _known_model(named, found), found.engine, found.deployment, config, tuple(found.notes))


def _speculation(kind: str, command: Command) -> EngineConfig | None:
    marks = ("--spec", "--ngram") if kind == "vllm" else ("--speculative-",)
    if not any(flag.startswith(marks) for flag in command.flags):
        return None
    settings = [f"{name}={value}" for name, value in command.environment.items()]
    words = [word for flag, values in command.flags.items() for word in (flag, *values)]
    return (read_vllm if kind == "vllm" else read_sglang)([*settings, *words])


def _vllm_graphs(command: Command, found: ReadFlags) -> None:
    level = command.value("--optimization-level")
    config = _json_flag(command, "--compilation-config")
    mode, sizes = str(config.get("cudagraph_mode", "")).upper(), config.get("cudagraph_capture_sizes")
    if mode and mode not in _GRAPH_MODES:
        raise InvalidInput(f"cudagraph_mode is {shown(mode)}; it is one of {', '.join(sorted(_GRAPH_MODES))}")
    if "--enforce-eager" in command.flags or level == "0" or mode == "NONE":
        found.engine["graph_mode"] = "none"
    elif mode:
        found.engine["graph_mode"] = mode.lower()
    if isinstance(sizes, list) and all(type(size) is int for size in sizes):
        found.engine["graph_sizes"] = tuple(sorted(set(sizes)))
    left = sorted(set(config) - {"cudagraph_mode", "cudagraph_capture_sizes", "mode", "level"})
    if left:
        found.notes.append(f"known, and not modelled: --compilation-config's {', '.join(left)}")


def _sglang_graphs(command: Command, found: ReadFlags) -> None:
    if "--disable-cuda-graph" in command.flags:
        found.engine["graph_mode"] = "none"
    tokens = command.number("--max-total-tokens")
    if tokens is not None:
        found.engine["num_kv_blocks"] = int(tokens // found.engine.get("block_size", 1))
    if found.engine.get("max_num_batched_tokens") == -1:
        del found.engine["max_num_batched_tokens"]
        found.engine["chunked_prefill"] = False


_GRAPHS: dict[str, Callable[[Command, ReadFlags], None]] = {"vllm": _vllm_graphs, "sglang": _sglang_graphs}


def _placement(kind: str, command: Command, found: ReadFlags) -> None:
    """Data parallelism with shared experts is one deployment in lockstep, without them replicas of their own."""
    where = found.deployment
    if kind == "vllm":
        if where.get("expert_parallel") and where.get("replicas", 1) > 1:
            where["data_parallel"] = where.pop("replicas")
        return
    ranks, experts = command.number("--dp-size"), command.number("--ep-size")
    if experts is not None and experts > 1:
        where["expert_parallel"] = True
    if ranks is not None and ranks > 1:
        if "--enable-dp-attention" in command.flags:
            where["data_parallel"] = int(ranks)
            where["tensor_parallel"] = max(1, where.get("tensor_parallel", 1) // int(ranks))
        else:
            where["replicas"] = int(ranks)


def _precision(command: Command, found: ReadFlags) -> None:
    method, dtype = command.value("--quantization"), command.value("--dtype")
    if method in _AT_START:
        found.deployment["weight_format"] = format_name(method)
    elif method is not None:
        found.notes.append(
            f"--quantization {shown(method)}: the checkpoint's own config.json says its format; for a bundled model "
            "set deployment.weight_format"
        )
    if dtype not in (None, "auto", "bfloat16", "half", "float16"):
        found.notes.append(f"known, and not modelled: --dtype {shown(dtype)}")


def _known_model(named: str | None, found: ReadFlags) -> str | None:
    """A bundled model of the name's last part, or the name itself where a file of it lies here."""
    if named is None:
        return None
    if Path(named).exists():
        return named
    plain = named.rsplit("/", 1)[-1].lower()
    match = next((name for name in sorted(model_names(), key=len, reverse=True) if plain.startswith(name)), None)
    if match is None:
        found.notes.append(f"model {shown(named)} is not bundled: give the path of its config.json as model")
    elif match != plain:
        found.notes.append(f"model {shown(named)} is taken for the bundled {match}")
    return match


def _json_flag(command: Command, flag: str) -> dict[str, Any]:
    """A flag's JSON object with what ``--flag.key value`` adds to it."""
    text = command.value(flag)
    try:
        content = {} if text is None else parse_json(text)
    except ValueError as error:
        raise InvalidInput(f"{flag} is not JSON ({error}); quote it as '{{...}}'") from None
    if isinstance(content, int):  # vLLM before 0.10: a level alone
        content = {"level": content}
    if not isinstance(content, dict):
        raise InvalidInput(f"{flag} is a {type(content).__name__}; write a JSON object")
    for name, values in command.flags.items():
        if name.startswith(f"{flag}.") and len(values) == 1:
            content[name.removeprefix(f"{flag}.").replace("-", "_")] = _plain(values[0])
    return content


def _plain(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _tensorrt_llm_yaml(text: str) -> dict[str, Any] | None:
    if "decoding_type" not in text and "speculative_config:" not in text:
        return None
    try:
        content = parse_yaml(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _trtllm_serve(environment: dict[str, str], words: list[str]) -> Server:
    """``trtllm-serve MODEL --config FILE``: the file says most of it."""
    command = read_command(words)
    file = command.value("--config", "--extra_llm_api_options", "--extra-llm-api-options")
    named = next((word for word in words if not word.startswith("-") and word != "serve"), None)
    deployment: dict[str, Any] = {}
    for flag, name in (("--tp-size", "tensor_parallel"), ("--ep-size", "expert_parallel")):
        if (ranks := command.number(flag)) is not None:
            deployment[name] = int(ranks) if name == "tensor_parallel" else ranks > 1
    if file is None:
        given = {name: command.number(flag) for flag, name in _TRTLLM_LIMITS.items()}
        engine = {name: int(value) for name, value in given.items() if value is not None}
        return Server("tensorrt-llm", named, engine, deployment, None, ("no --config: speculation is off",))
    return _tensorrt_llm(read_mapping(file), named, deployment)


def _tensorrt_llm(content: dict[str, Any], named: str | None, deployment: dict[str, Any]) -> Server:
    if isinstance(ranks := content.get("tensor_parallel_size"), int):
        deployment = deployment | {"tensor_parallel": ranks}
    config = read_tensorrt_llm(content)
    return Server("tensorrt-llm", named, dict(config.limits), deployment, config, config.notes)
