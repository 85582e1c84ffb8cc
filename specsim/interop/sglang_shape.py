"""The shape of a draft in SGLang's flags, a chain, a tree or a block: read and written.

Rules restated from sgl-project/sglang: ``srt/arg_groups/speculative_hook.py`` (commit 004c82e).
"""

from __future__ import annotations

from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.command_line import Command
from specsim.interop.engine_config import EagleTree, EngineConfig
from specsim.specs.yaml_file import build

_EAGLE_FAMILY = {"eagle", "eagle3", "mtp", "draft_model"}


def read_shape(method: str, command: Command, notes: list[str]) -> tuple[int | None, EagleTree | None]:
    """(drafts of a round, the tree they form if it branches); drafts are None where the checkpoint says how many.

    Raises InvalidInput for numbers that SGLang refuses together.
    """
    nodes, flag = speculative_number(command, "num-draft-tokens"), "--speculative-num-draft-tokens"
    if method in _EAGLE_FAMILY:
        return _eagle_shape(method, nodes, command, notes)
    if method == "ngram":
        nodes, topk = nodes or 12, speculative_number(command, "ngram-max-bfs-breadth") or 10
        steps = speculative_number(command, "num-steps") or max(1, nodes // topk)
        return nodes - 1, None if topk == 1 else _tree(topk, steps, nodes)
    extra = 1 if method == "dspark" else 0  # a DFlash block holds the root, a DSpark block does not
    block = speculative_number(command, f"{method}-block-size")
    if block is not None and nodes is not None and nodes != block + extra:
        raise InvalidInput(f"{flag} is {nodes} and the {method} block needs {block + extra}; keep one of them")
    verified = nodes if block is None else block + extra
    if verified is None:
        notes.append(f"{method} takes its block size from the draft checkpoint; state {flag}")
        return None, None
    if verified < 2:
        raise InvalidInput(f"{flag} is {verified}; it counts the root, so it should be at least 2")
    return verified - 1, None


def _eagle_shape(
    method: str, nodes: int | None, command: Command, notes: list[str]
) -> tuple[int | None, EagleTree | None]:
    steps, topk = speculative_number(command, "num-steps"), speculative_number(command, "eagle-topk")
    if steps is None and (topk is not None or nodes is not None):
        raise InvalidInput("SGLang refuses topk or draft tokens without --speculative-num-steps; add it")
    if steps is None and method != "draft_model":
        notes.append("SGLang chooses the draft's shape by the target's architecture; state --speculative-num-steps")
        return None, None
    if steps is None:
        return 3, None
    if topk is None:
        raise InvalidInput("--speculative-num-steps needs --speculative-eagle-topk; write 1 for a chain")
    if topk == 1:
        if nodes not in (None, steps + 1):
            notes.append(f"SGLang sets --speculative-num-draft-tokens to {steps + 1} where topk is 1")
        return steps, None
    if nodes is None:
        raise InvalidInput(f"a tree of topk {topk} needs --speculative-num-draft-tokens; add it")
    return nodes - 1, _tree(topk, steps, nodes)


def _tree(topk: int, steps: int, nodes: int) -> EagleTree:
    fields = {"topk": topk, "num_steps": steps, "num_draft_tokens": nodes}
    return build(EagleTree, fields, where="the SGLang flags")


def shape_options(config: EngineConfig, k: int) -> dict[str, Any]:
    """The flags of the config's tree, or of a chain of ``k``, without ``--speculative-``."""
    tree = config.tree
    if config.method in _EAGLE_FAMILY:
        shape = (k, 1, k + 1) if tree is None else (tree.num_steps, tree.topk, tree.num_draft_tokens)
        return dict(zip(("num-steps", "eagle-topk", "num-draft-tokens"), shape, strict=True))
    if config.method == "ngram":
        topk = 1 if tree is None else tree.topk
        nodes = {"num-draft-tokens": k + 1 if tree is None else tree.num_draft_tokens, "ngram-max-bfs-breadth": topk}
        return nodes if tree is None else nodes | {"num-steps": tree.num_steps}
    return {"dspark-block-size": k} if config.method == "dspark" else {"num-draft-tokens": k + 1}


def speculative_number(command: Command, name: str) -> int | None:
    """The whole number of ``--speculative-name``."""
    value = command.number(f"--speculative-{name}")
    return None if value is None else int(value)
