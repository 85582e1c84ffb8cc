"""Wrong inputs out of right ones: values replaced by extremes, fields dropped, renamed and added, texts damaged."""

from __future__ import annotations

import copy
import random
from typing import Any

EXTREME: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 63, 10**5, 10**9, 10**11, 2**63 - 1, 2**63, 10**40, -(10**18), 0.0, -0.0, 0.5, 1.5, -1.5,
    1e-320, 5e-324, 1e-30, 1e-12, 1e12, 1e30, 1e300, 1.7e308, float("inf"), float("-inf"), float("nan"), True, False,
    None, "", " ", "0", "1e9", "off", "nan", "....", "\x00", "é\u2028\U0001f600", "x" * 5_000, "../../etc/passwd",
    [], [[]], {}, [None], [1, "a"], [0.1] * 400, {"kind": "fixed"}, {"a": {"a": {"a": 1}}}, "2026-02-30", "!!int x",
)  # fmt: skip


def mutated(document: Any, chance: random.Random) -> Any:
    """A copy of nested lists and dicts with one to three places changed."""
    changed = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        owner, key = chance.choice(_places(changed))
        change = chance.random()
        if change < 0.6:
            owner[key] = _near(owner[key], chance) if chance.random() < 0.4 else copy.deepcopy(chance.choice(EXTREME))
        elif change < 0.75:
            del owner[key]
        elif change < 0.9 and isinstance(owner, dict):
            owner[_misspelt(str(key), chance)] = owner[key]
        elif isinstance(owner, dict):
            owner[chance.choice(("extra", "kind", "name", "rows", ""))] = copy.deepcopy(chance.choice(EXTREME))
        if not _places(changed):
            break
    return changed


def damaged(text: str, chance: random.Random) -> bytes:
    """The text with bytes dropped, doubled, replaced or cut off."""
    content = bytearray(text.encode())
    for _ in range(chance.choice((1, 1, 2, 5))):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice((0, 1, 1, 3, 20)))
        change = chance.randrange(5)
        if change == 0:
            del content[start:end]
        elif change == 1:
            content[start:start] = content[start:end] * chance.choice((1, 2, 50))
        elif change == 2:
            content[start:end] = bytes(
                chance.choice((b"\xff", b"\x00", b"{", b"[" * 3_000, b":", b"'", b"-", b"9" * 5_000))
            )
        elif change == 3:
            content[start:end] = bytes(chance.randrange(256) for _ in range(end - start))
        else:
            del content[start:]
    return bytes(content)


def _near(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return chance.choice(EXTREME)
    return chance.choice((value * 2, -value, value + 1, value - 1, value / 3, value * 1e6, str(value)))


def _misspelt(name: str, chance: random.Random) -> str:
    at = chance.randrange(len(name) + 1)
    return name[:at] + chance.choice("abz_") + name[at + 1 :]


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (owner, key) in nested lists and dicts."""
    found: list[tuple[Any, Any]] = []
    if isinstance(document, dict | list):
        keys = list(document) if isinstance(document, dict) else range(len(document))
        for key in keys:
            found += [(document, key), *_places(document[key])]
    return found
