"""A user's own draft head as the program of a scenario: its technique's preset with the head's own size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.huggingface.draft_head import DraftHead, read_draft_head
from specsim.specs.yaml_file import build
from specsim.speculation.program import DraftProgram, load_program, program_names

_KEYED = ("dflash", "dspark")  # whose context enters as keys and values alone
# Positions of a block that hold the last committed token. DFlash's first one does (arXiv 2602.06036, 3.1); a block of
# DSpark is drafts alone, of which the target verifies one more row (arXiv 2607.05147; SGLang's draft tokens are
# block_size + 1 there).
_ANCHORS = {"dflash": 1}


def head_program(path: Path | str) -> DraftProgram:
    """The program of a head's config.json or its folder.

    Everything but the weights is the preset's: passes, slots, and the acceptance where the scenario gives none. Raises
    InvalidInput for a file that tells no head, NoAnswer for a technique without a program.
    """
    return program_of(read_draft_head(path))


def program_of(head: DraftHead) -> DraftProgram:
    """The program of a head that was read."""
    name = head.technique
    if name not in program_names():
        raise NoAnswer(f"{head.where}: there is no program for {name} heads; describe it as a YAML program")
    preset = load_program(name).model_dump(mode="json", exclude_none=True, by_alias=True)
    source = f"{head.where}, a head of {name}; what it does not say is preset {name}'s ({preset['source']})"
    phases = preset["phases"] if head.shape is None and not head.heads else _phases(head, preset["phases"])
    fields = preset | {"source": source, "phases": phases, "simplified": head.simplified}
    if head.max_position is not None:
        fields["max_position"] = head.max_position
    if head.target_vocabulary is not None:
        fields["target_vocabulary"] = head.target_vocabulary
    if head.block is not None:
        fields["draft_tokens"] = max(1, head.block - _ANCHORS.get(name, 0))
    if head.heads:
        fields["draft_tokens"] = head.heads
        fields.pop("acceptance", None)  # of so many heads as the preset has
    return build(DraftProgram, fields, head.where)


def _phases(head: DraftHead, phases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The preset's phases with the head's weights: the fusion of states in its own phase, if the preset has one.

    A third phase is a Markov head, which goes from position to position.
    """
    if head.heads:
        return [phases[0] | {"weights": _medusa(head)}]
    fusion, layers = _weights(head)
    if len(phases) == 1:
        return [phases[0] | {"weights": [*fusion, *layers]}]
    found = [phases[0] | {"weights": fusion}, phases[1] | {"weights": layers}]
    for phase in phases[2:]:
        markov = {"kind": "sized_head", "hidden_size": head.rank} if head.rank else phase["weights"][0]
        if head.vocabulary is not None:
            markov = markov | {"vocabulary": head.vocabulary}
        found.append(phase | {"weights": [markov]})
    return found


def _medusa(head: DraftHead) -> list[dict[str, Any]]:
    return [
        {"kind": "matrices", "count": head.heads * head.layers, "on_rows": True},
        {"kind": "head", "own": True, "count": head.heads},
    ]


def _weights(head: DraftHead) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(fusion of the target's states, decoder layers and output matrix)."""
    shape = head.shape
    if shape is None:
        raise InvalidInput(f"{head.where}: the head's widths are missing; add hidden_size and num_attention_heads")
    read = head.states + (1 if head.technique == "eagle" else 0)  # EAGLE reads the token's embedding beside
    width = (head.target_hidden_size or shape.hidden_size) * read
    fusion = [{"kind": "sized_matrix", "inputs": width, "outputs": shape.hidden_size}]
    layers: dict[str, Any] = {
        "kind": "sized_layers",
        "count": head.layers,
        "hidden_size": shape.hidden_size,
        "num_heads": shape.num_heads,
        "num_kv_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate_size,
        "input_width": 2 if head.technique == "eagle3" else 1,
        "context": "keys" if head.technique in _KEYED else "layers",
    }
    output: dict[str, Any] = {"kind": "head"}
    if head.vocabulary is not None:
        output = {"kind": "sized_head", "vocabulary": head.vocabulary, "hidden_size": shape.hidden_size}
    found = [layers, output]
    if head.technique == "p-eagle":
        found.insert(1, {"kind": "sized_matrix", "inputs": 2 * shape.hidden_size, "outputs": shape.hidden_size})
    return fusion, found
