"""A server's ``--config`` file as the flags that it stands for.

vLLM (``vllm/utils/argparse_utils.py``) and SGLang (``srt/server_args.py``) put the file's flags before those of the
command line, which win; TensorRT-LLM (``tensorrt_llm/commands/serve.py``) lays the file over them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from specsim.errors import InvalidInput, shown
from specsim.interop.command_line import Command
from specsim.interop.server_flags import FlagTable, spelled_out
from specsim.named_files import file_named, is_file
from specsim.specs.yaml_file import read_mapping
from specsim.specs.yaml_text import parse_yaml

NESTED = ("kv_cache_config", "cuda_graph_config", "pytorch_backend_config")  # TensorRT-LLM's, read key by key


def read_file(path: str, pasted: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """What a file says that was pasted with the command or lies here; else nothing, and a note."""
    if path in pasted:
        return _mapping(pasted[path], path)
    if is_file(path):
        return read_mapping(file_named(path))
    notes.append(
        f"--config {shown(path)} is not here, so that what it says is not read; paste it, or run this where it is"
    )
    return {}


def with_file(command: Command, content: Mapping[str, Any], table: FlagTable) -> Command:
    """The command, spelled out, with a file's flags. Raises InvalidInput for a list where there is one value."""
    written = spelled_out(Command({}, file_flags(content)), table)
    if written.words:
        raise InvalidInput(f"{shown(' '.join(written.words))} is one value too many for its key; give it one")
    flags = written.flags
    both = command.flags | flags if table.program == "tensorrt-llm" else flags | command.flags
    return Command(command.environment, both, command.words, command.repeated)


def file_flags(content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """``{"max_num_seqs": 64, "enforce-eager": True}`` is ``--max-num-seqs 64 --enforce-eager``; a mapping is JSON."""
    found: dict[str, tuple[str, ...]] = {}
    for key, value in content.items():
        if key == "pytorch_backend_config" and isinstance(value, Mapping):  # up to TensorRT-LLM 0.19
            found |= file_flags(value)
        elif key in NESTED and isinstance(value, Mapping):
            words = {inner: str(v).lower() if isinstance(v, bool) else v for inner, v in value.items()}
            found |= {f"{_flag(key)}.{inner.removeprefix('--')}": v for inner, v in file_flags(words).items()}
        elif isinstance(value, bool):
            found[_flag(key) if value else f"--no-{_flag(key).removeprefix('--')}"] = ()
        elif isinstance(value, list):
            found[_flag(key)] = tuple(map(str, value))
        elif value is not None or key == "cuda_graph_config":
            found[_flag(key)] = (json.dumps(value) if isinstance(value, Mapping) or value is None else str(value),)
    return found


def _flag(key: object) -> str:
    return f"--{key}".replace("_", "-")


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise InvalidInput(f"{where} is no YAML{error}; paste it whole") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{where} holds no keys; write for instance max_batch_size: 64")
    return content
