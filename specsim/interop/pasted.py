"""A server's command line as people paste it: the shell around it, ``docker run``, a Kubernetes manifest.

What is left are the words that the server's own parser sees, and the environment set for it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specsim.errors import InvalidInput, shown
from specsim.specs.yaml_text import parse_yaml

PROGRAMS = {
    "vllm": ("vllm", "vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server"),
    "sglang": ("sglang", "sglang.launch_server"),
    "tensorrt-llm": ("trtllm-serve", "tensorrt_llm.commands.serve"),
}
IMAGES = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "tensorrt"}  # a word of the image's name
CONTAINERS = ("docker", "podman", "nerdctl")
OF_CONTAINERS = (
    "--name",
    "-v",
    "--volume",
    "-e",
    "--env",
    "--network",
    "--hostname",
)
_ENDS = {"|", "||", "&&", ";", "&"}
_DESCRIPTOR = re.compile(r"(?<=\s)\d(?=[<>])")  # 2>&1
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_MANIFEST = re.compile(r"^\s*(-\s+)?(args|command|containers|apiVersion)\s*:", re.MULTILINE)

_HEREDOC = re.compile(
    r"^(?P<line>.*?)<<-?\s*(['\"]?)(?P<end>\w+)\2(?P<rest>[^\n]*)\n(?P<body>.*?)^\s*(?P=end)[ \t]*$", re.M | re.S
)
_WRITTEN_TO = re.compile(r"(?:>{1,2}|\btee)\s*([^\s<>|]+)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|\((\w+)\)|(\w+))")
_NO_SERVERS = {"bench", "chat", "complete", "run-batch", "collect-env", "disaggregated", "disaggregated_mpi_worker"}


@dataclass(frozen=True, slots=True)
class Call:
    """``words`` come after the program; ``files``: what the text writes to a path before, as ``cat <<EOF > PATH``."""

    engine: str
    environment: dict[str, str]
    words: list[str]
    files: dict[str, str] = field(default_factory=dict)


def server_call(text: str) -> Call:
    """The call of a server in ``text``. Raises InvalidInput: unbalanced quotes, no server of a known engine."""
    files: dict[str, str] = {}
    if _MANIFEST.search(text):
        commands = list(_manifest_commands(text))
    else:
        commands = list(_shell_commands(_without_files(text, files)))
    environment: dict[str, str] = {}
    for words in commands:
        settings, rest = _assignments(words)
        environment |= {name: _expanded(value, environment) for name, value in settings.items()}
        call = _call(rest)
        if call is not None:
            environment |= call.environment
            arguments = [_expanded(word, environment) for word in call.words]
            written = {_expanded(path, environment): content for path, content in files.items()}
            return Call(call.engine, environment, arguments, written)
    nowhere = " is no file here and" if len(text.split()) == 1 else ""
    raise InvalidInput(
        f"{shown(text)}{nowhere} starts no server that is known; give a command line of vllm serve, "
        "python -m sglang.launch_server or trtllm-serve"
    )


def _without_files(text: str, files: dict[str, str]) -> str:
    """A shell text without its here-documents, which go into ``files`` by the path that they are written to."""

    def cut(match: re.Match[str]) -> str:
        line = f"{match['line']} {match['rest']}"
        if (path := _WRITTEN_TO.search(line)) is not None:
            files[path[1].strip("'\"")] = match["body"]
        return line

    return _HEREDOC.sub(cut, text)


def _expanded(word: str, variables: Mapping[str, str]) -> str:
    """A word with the variables that are known, or have a default in it; the others stay as they are written."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3] or match[4]
        return variables.get(name, match[0] if match[2] is None else match[2])

    return _VARIABLE.sub(value, word)


def _shell_commands(text: str) -> Iterator[list[str]]:
    """Simple commands of a shell text, without redirections and comments."""
    joined = re.sub(r"\\\s*\n", " ", text).replace("\n", " ; ")
    lexer = shlex.shlex(_DESCRIPTOR.sub("", joined), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        for word in lexer:
            if set(word) <= set("|&;<>") and set(word) & set("<>"):
                next(lexer, None)  # the file
            elif word in _ENDS:
                yield words
                words = []
            else:
                words.append(word)
    except ValueError as error:
        raise InvalidInput(f"the command line has {str(error).lower()}; balance its quotes") from None
    yield words


def _manifest_commands(text: str) -> Iterator[list[str]]:
    """command and args of every container in YAML text, the environment in front."""
    try:
        document = parse_yaml(text)
    except ValueError as error:
        raise InvalidInput(f"the manifest is no YAML{error}; paste it whole") from None
    for container in _mappings(document):
        words = [str(word) for key in ("command", "args") for word in _words(container.get(key))]
        if not words:
            continue
        named = [one for one in container.get("env") or () if isinstance(one, dict) and "name" in one]
        settings = [f"{one['name']}={one.get('value', '')}" for one in named]
        script = next((word for word in words if " " in word and _engine_in(word.split())), None)
        inner = list(_shell_commands(script)) if script is not None else [words]
        image = str(container.get("image", ""))
        if script is None and _call(words) is None and (engine := _engine_of(image)) is not None:
            inner = [[PROGRAMS[engine][0], *words]]
        yield from ([*settings, *command] for command in inner)


def _words(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [word for word in value if not isinstance(word, dict | list)]
    return shlex.split(value) if isinstance(value, str) else []


def _mappings(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        for value in document.values():
            yield from _mappings(value)
    elif isinstance(document, list):
        for value in document:
            yield from _mappings(value)


def _assignments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Leading ``NAME=value`` words, ``export`` and ``env`` before them passed over, and the rest."""
    settings: dict[str, str] = {}
    for index, word in enumerate(words):
        match = _ASSIGNMENT.fullmatch(word)
        if match is not None:
            settings[match[1]] = match[2]
        elif word not in ("export", "env", "nohup", "exec", "time", "sudo"):
            return settings, list(words[index:])
    return settings, []


def _call(words: Sequence[str]) -> Call | None:
    """The engine's call in one command; None where it is none."""
    if words and words[0] in CONTAINERS:
        return _container_call(words)
    found = _engine_in(words)
    if found is None:
        bare = bool(words) and words[0].startswith("-")  # flags alone
        return Call(_engine_of_flags(words), {}, list(words)) if bare else None
    engine, index = found
    rest = list(words[index + 1 :])
    return None if rest and rest[0] in _NO_SERVERS else Call(engine, {}, rest)


def _engine_in(words: Sequence[str]) -> tuple[str, int] | None:
    for index, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        for engine, programs in PROGRAMS.items():
            if name in programs or word in programs:
                return engine, index
    return None


def _container_call(words: Sequence[str]) -> Call | None:
    """``docker run OPTIONS IMAGE ARGUMENTS``: the image is the first word that names an engine and is no option."""
    settings: dict[str, str] = {}
    for index, word in enumerate(words[1:], start=1):
        before = words[index - 1]
        if before in ("-e", "--env") and (match := _ASSIGNMENT.fullmatch(word)):
            settings[match[1]] = match[2]
            continue
        engine = None if word.startswith("-") or before in OF_CONTAINERS else _engine_of(word)
        if engine is not None:
            rest = list(words[index + 1 :])
            inner = _call(rest) if rest and not rest[0].startswith("-") else None
            return Call(engine, settings, rest) if inner is None else Call(inner.engine, settings, inner.words)
    return None


def _engine_of(image: str) -> str | None:
    name = image.lower()
    return next((engine for engine, mark in IMAGES.items() if mark in name), None)


def _engine_of_flags(words: Sequence[str]) -> str:
    return "sglang" if any(word.startswith(("--speculative-algorithm", "--model-path")) for word in words) else "vllm"
