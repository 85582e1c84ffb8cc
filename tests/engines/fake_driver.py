"""A stand-in for an engine's own Python, which runs a driver: it serves waves in rounds of known times.

A round of B sequences with k drafts takes 10 ms and 1 ms a verified token; accepted drafts are 0, 1, ..., k, 0, ...
``FAKE_DRIVER`` says what is wrong: ``dies`` at its 21st wave, ``empty`` rounds. ``FAKE_LOG`` gets what was asked.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

TROUBLE = os.environ.get("FAKE_DRIVER", "")


def note(what: object) -> None:
    with open(os.environ["FAKE_LOG"], "a") as file:
        file.write(json.dumps(what) + "\n")


def rounds(what: dict[str, Any]) -> list[dict[str, object]]:
    prompts, draft_tokens = what["prompts"], what["num_draft_tokens"]
    found, batch, produced, turn = [], len(prompts), 0, 0
    while produced < what["output_tokens"]:
        accepted = turn % (draft_tokens + 1)
        seconds = 0.01 + 1e-3 * batch * (draft_tokens + 1)
        parts = {"total": seconds, "verify": 0.9 * seconds, "draft": 0.0, "sample": 0.0, "host": 0.1 * seconds}
        found.append({
            "seconds": parts,
            "context_tokens": len(prompts[0]) + produced,
            "drafted": [draft_tokens] * batch, "accepted": [accepted] * batch,
        })  # fmt: skip
        produced, turn = produced + accepted + 1, turn + 1
    return found


def main() -> None:
    start = json.loads(sys.stdin.readline())
    note({"start": start, "pid": os.getpid()})
    device = os.environ.get("FAKE_DEVICE", "cpu")
    facts = {"vllm": "0.32.0", "transformers": "5.19.0", "torch": "2", "device": device, "dtype": "bfloat16"}
    print(json.dumps(facts | {"mode": "eager"}), flush=True)
    begun, left = 0, []
    for line in sys.stdin:
        asked = json.loads(line)
        note(asked | {"pid": os.getpid()})
        if "begin" in asked:
            if TROUBLE == "dies" and begun == 20:
                sys.exit(7)
            begun, left = begun + 1, [] if TROUBLE == "empty" else rounds(asked["begin"])
            print("{}", flush=True)
        else:
            now, left = left[: asked["steps"]], left[asked["steps"] :]
            print(json.dumps({"steps": now}), flush=True)
    note({"ended": os.getpid()})


if __name__ == "__main__":
    main()
