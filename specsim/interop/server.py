"""A server as it is started, whichever engine's: model, engine, deployment and speculation in a scenario's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from specsim.errors import InvalidInput, SpecsimError, kind_of, shown
from specsim.interop.command_line import Command, read_command
from specsim.interop.config_file import file_flags, read_file, with_file
from specsim.interop.engine_config import EngineConfig, speculation_fields
from specsim.interop.pasted import Call, server_call
from specsim.interop.server_flags import ReadFlags, flag_table, read_flags, spelled_out
from specsim.interop.sglang import read_sglang
from specsim.interop.tensorrt_llm import TOKENS_PER_BLOCK, read_tensorrt_llm
from specsim.interop.vllm import read_vllm
from specsim.json_file import parse_json
from specsim.named_files import is_file, is_folder
from specsim.specs.catalog import model_names
from specsim.specs.formats import format_name
from specsim.specs.yaml_text import parse_yaml

_AT_START = {"fp8", "int8", "fp8_per_tensor", "fp8_per_block", "w8a8_fp8", "w8a8_int8", "mxfp8"}  # any model's weights
_GRAPH_MODES = {"FULL_AND_PIECEWISE", "FULL_DECODE_ONLY", "PIECEWISE", "NONE"}


@dataclass(frozen=True, slots=True)
class ServerSettings:
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


def read_server(text: str) -> ServerSettings:
    """The server that a pasted command line, manifest, or configuration file starts.

    Raises InvalidInput: no known server, a flag's value of another kind, speculation that the engine refuses.
    """
    content = _own_text(text)
    kind = None if content is None else _engine_of_file(content)
    if content is None or kind is None:
        return _started(server_call(text))
    if kind == "vllm" and {"method", "num_speculative_tokens"} & set(content):  # the JSON of --speculative-config
        content = {"speculative_config": content}
    return _read(kind, Command({}, {}), content)


def _started(call: Call) -> ServerSettings:
    table = flag_table(call.engine)
    command = spelled_out(replace(read_command(call.words), environment=call.environment), table)
    notes: list[str] = []
    path = command.value("--config")
    content = {} if path is None else read_file(path, call.files, notes)
    server = _read(call.engine, command, content)
    return replace(server, notes=(*notes, *server.notes))


def _read(kind: str, command: Command, content: Mapping[str, Any]) -> ServerSettings:
    table = flag_table(kind)
    command = with_file(command, content, table)
    found = read_flags(command, table)
    named = _model_name(command, found)
    _GRAPHS[kind](command, found)
    _PLACEMENTS[kind](command, found)
    _precision(command, found)
    config = _speculation(kind, command, content)
    if config is not None:
        found.notes += [note for note in config.notes if note not in found.notes]
    _captured_requests(command, found, config)
    return ServerSettings(kind, _known_model(named, found), found.engine, found.deployment, config, tuple(found.notes))


def _own_text(text: str) -> dict[str, Any] | None:
    """The keys of a configuration file; None for anything else."""
    try:
        content = parse_yaml(text) if ":" in text else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _engine_of_file(content: Mapping[str, Any]) -> str | None:
    """Whose configuration file it is, by the keys; None where no engine knows any."""
    inner = content.get("speculative_config", content)
    if isinstance(inner, Mapping) and {"decoding_type", "method"} & set(inner):
        return "tensorrt-llm" if "decoding_type" in inner else "vllm"
    flags = {flag.partition(".")[0] for flag in file_flags(content)}
    known = {kind: len(flags & {flag.partition(".")[0] for flag in flag_table(kind).known()}) for kind in _GRAPHS}
    best = max(known, key=lambda kind: known[kind])
    return best if known[best] else None


def _model_name(command: Command, found: ReadFlags) -> str | None:
    """The model of a flag or of the words that are no flag's. Raises InvalidInput for more words than one."""
    words = [word for word in command.words if word != "serve"]
    if found.model is None and words:
        found.model = words.pop(0)
    if words:
        raise InvalidInput(f"{shown(' '.join(words))} belongs to no flag; remove it, or quote it with its flag")
    return found.model


def _speculation(kind: str, command: Command, content: Mapping[str, Any]) -> EngineConfig | None:
    if kind == "tensorrt-llm":
        given = content if "decoding_type" in content else content.get("speculative_config")
        return None if given is None else read_tensorrt_llm(content)
    marks = ("--spec", "--ngram", "--num-speculative-tokens") if kind == "vllm" else ("--speculative-",)
    if not any(flag.startswith(marks) for flag in command.flags):
        return None
    settings = [f"{name}={value}" for name, value in command.environment.items()]
    words = [word for flag, values in command.flags.items() for word in (flag, *values)]
    return (read_vllm if kind == "vllm" else read_sglang)([*settings, *words])


def _vllm_graphs(command: Command, found: ReadFlags) -> None:
    config = _json_flag(command, "--compilation-config")
    mode, sizes = str(config.get("cudagraph_mode", "")).upper(), config.get("cudagraph_capture_sizes")
    if mode and mode not in _GRAPH_MODES:
        raise InvalidInput(f"cudagraph_mode is {shown(mode)}; it is one of {', '.join(sorted(_GRAPH_MODES))}")
    uncompiled = "0" in (command.value("--optimization-level"), str(config.get("level")))
    if "--enforce-eager" in command.flags or uncompiled or mode == "NONE":
        found.engine["graph_mode"] = "none"
    elif mode:
        found.engine["graph_mode"] = mode.lower()
    if isinstance(sizes, list) and all(type(size) is int for size in sizes):
        found.engine["graph_sizes"] = tuple(sorted(set(sizes)))
    left = set(config) - {"cudagraph_mode", "cudagraph_capture_sizes"}
    if str(config.get("level")) in ("0", "3"):  # 3 is what vLLM does
        left -= {"level"}
    if left:
        found.notes.append(f"known, and not modelled: --compilation-config's {', '.join(sorted(left))}")


def _sglang_graphs(command: Command, found: ReadFlags) -> None:
    if "--disable-cuda-graph" in command.flags or "--disable-decode-cuda-graph" in command.flags:
        found.engine["graph_mode"] = "none"
    tokens = command.number("--max-total-tokens")
    if tokens is not None:
        found.engine["num_kv_blocks"] = int(tokens // found.engine.get("block_size", 1))
    if command.value("--chunked-prefill-size") == "-1":
        found.engine["chunked_prefill"] = False


def _trtllm_graphs(command: Command, found: ReadFlags) -> None:
    if "--no-use-cuda-graph" in command.flags or command.flags.get("--cuda-graph-config") == ("null",):
        found.engine["graph_mode"] = "none"
    tokens = command.number("--kv-cache-config.max-tokens")
    if tokens is not None:
        found.engine["num_kv_blocks"] = int(tokens // found.engine.get("block_size", TOKENS_PER_BLOCK))


_GRAPHS: dict[str, Callable[[Command, ReadFlags], None]] = {
    "vllm": _vllm_graphs,
    "sglang": _sglang_graphs,
    "tensorrt-llm": _trtllm_graphs,
}


def _captured_requests(command: Command, found: ReadFlags, config: EngineConfig | None) -> None:
    """SGLang and TensorRT-LLM count requests where a scenario counts the tokens of their verification."""
    counts = command.numbers("--cuda-graph-bs-decode", "--cuda-graph-bs", "--cuda-graph-config.batch-sizes")
    if counts:
        width = 1 + ((config and config.num_speculative_tokens) or 0)
        found.engine["graph_sizes"] = tuple(sorted({count * width for count in counts}))


def _vllm_placement(command: Command, found: ReadFlags) -> None:
    """Data parallelism with shared experts is one deployment in lockstep, without them replicas of their own."""
    where = found.deployment
    if where.get("expert_parallel") and where.get("replicas", 1) > 1:
        where["data_parallel"] = where["replicas"]


def _sglang_placement(command: Command, found: ReadFlags) -> None:
    ranks, experts = int(command.number("--dp-size") or 1), int(command.number("--ep-size") or 1)
    if experts > 1:
        found.deployment["expert_parallel"] = True
    if ranks > 1 and "--enable-dp-attention" in command.flags:
        _attention_ranks(ranks, experts, found)
    elif ranks > 1:
        found.deployment["replicas"] = ranks


def _trtllm_placement(command: Command, found: ReadFlags) -> None:
    experts = int(command.number("--moe-expert-parallel-size") or 1)
    if experts > 1:
        found.deployment["expert_parallel"] = True
    ranks = found.deployment.get("tensor_parallel", 1)
    if ranks > 1 and "--enable-attention-dp" in command.flags:
        _attention_ranks(ranks, experts, found)


def _attention_ranks(ranks: int, experts: int, found: ReadFlags) -> None:
    """Attention on ``ranks`` replicas of its own, the tensor-parallel ranks divided among them."""
    where = found.deployment
    tensor_parallel = max(1, where.get("tensor_parallel", 1) // ranks)
    found.deployment |= {"data_parallel": ranks, "replicas": ranks, "tensor_parallel": tensor_parallel}
    if experts < 2:
        where["expert_parallel"] = True
        found.notes.append(
            "experts sliced over attention's ranks are not modelled: each is taken to be whole on one GPU"
        )


_PLACEMENTS: dict[str, Callable[[Command, ReadFlags], None]] = {
    "vllm": _vllm_placement,
    "sglang": _sglang_placement,
    "tensorrt-llm": _trtllm_placement,
}


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
    if is_file(named) or is_folder(named):
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
        raise InvalidInput(f"{flag} is {kind_of(content)}; write a JSON object")
    for name, values in command.flags.items():
        if name.startswith(f"{flag}.") and len(values) == 1:
            content[name.removeprefix(f"{flag}.").replace("-", "_")] = _plain(values[0])
    return content


def _plain(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text
