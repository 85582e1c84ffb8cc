"""YAML text as plain data: version 1.2 scalars, nothing but numbers, text, lists and mappings, of bounded size.

PyYAML follows YAML 1.1, where ``1e12`` is text, ``off`` is false, ``1:30`` is 90 and a date is an object.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any, cast

import yaml

DEEPEST = 64  # brackets within brackets: the parser recurses
MOST_VALUES = 1_000_000  # each alias counts what it stands for: a few lines of aliases can hold a billion values
LONGEST_NUMBER = 400  # digits: the longest finite float64 has 309
_NUMBER = re.compile(rf"[-+0-9._eE]{{{LONGEST_NUMBER},}}")


class _Rules:
    """A field given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"field {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)  # type: ignore[misc]
        return mapping


class _Loader(_Rules, yaml.SafeLoader):
    """Tells what is wrong in the same words everywhere."""


class _FastLoader(_Rules, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Ten times as fast, where PyYAML was built with the C parser."""


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in (*_SCALARS, "timestamp")}
for _loader in (_Loader, _FastLoader):
    _loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _kind, (_pattern, _first) in _SCALARS.items():
        _loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))


def parse_yaml(text: str) -> Any:
    """The document as numbers, text, booleans, None, lists and dicts.

    Raises ValueError: not YAML, a tag, too deep, too large, a field given twice. Its line goes on after the file name
    (``, line 3: ...``).
    """
    try:
        try:
            return _loaded(text, _FastLoader)
        except yaml.YAMLError:
            return _loaded(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(_told(error)) from None


def _loaded(text: str, loader: Any) -> Any:
    _check_size(yaml.parse(text, Loader=loader))
    return yaml.load(text, Loader=loader)


def _check_size(events: Iterator[yaml.Event]) -> None:
    """Raise for what would take too long to build, before anything is built; ``events`` come without recursion."""
    sizes, anchors, open_anchors = [0], dict[str | None, int](), list[str | None]()
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            _refuse_tag(event)
            sizes.append(1)
            open_anchors.append(event.anchor)
            if len(sizes) > DEEPEST:
                raise _fault(event, f"more than {DEEPEST} brackets or indents within each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            size, anchor = sizes.pop(), open_anchors.pop()
            sizes[-1] += size
            if anchor is not None:
                anchors[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_tag(event)
            sizes[-1] += 1
            if event.anchor is not None:
                anchors[event.anchor] = 1
            if event.implicit[0] and _NUMBER.fullmatch(event.value):
                raise _fault(event, f"a number of {len(event.value):,} digits")
        elif isinstance(event, yaml.AliasEvent):
            sizes[-1] += anchors.get(event.anchor, 1)
        if sizes[-1] > MOST_VALUES:
            raise _fault(event, f"more than {MOST_VALUES:,} values, each alias counted as what it stands for")


def _refuse_tag(event: Any) -> None:
    if event.tag not in (None, "!"):
        kind = event.tag.removeprefix("tag:yaml.org,2002:")
        raise _fault(event, f"the tag {'!!' if kind != event.tag else ''}{kind[:40]!s}; write the plain value")


def _fault(event: yaml.Event, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=cast(Any, event.start_mark))


def _told(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}: {error.problem}"
    return f": {str(error).splitlines()[0]}"
