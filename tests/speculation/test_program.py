"""Programs as files: a user's own is taken from any path, and a malformed one is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.specs.catalog import load_model
from specsim.speculation.program import PRESETS, DraftProgram, load_program, program_names

OWN: dict[str, Any] = {
    "name": "mine",
    "source": "ours",
    "lossless": True,
    "proposal": "chain",
    "phases": [{"weights": [{"kind": "target_layers", "last": 4}, {"kind": "head"}], "passes": "per_token"}],
    "verify": {"from_layer": 4},
    "acceptance": {"law": {"kind": "constant", "rate": 0.6}, "basis": "measured", "source": "our logs"},
}


def written(folder: Path, fields: dict[str, Any]) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(fields))
    return str(path)


def test_a_file_of_ones_own_is_a_program(tmp_path: Path) -> None:
    program = load_program(written(tmp_path, OWN))
    assert program.name == "mine"
    assert program.choices(3) == (0, 1, 2, 3)


@pytest.mark.parametrize("name", program_names())
def test_a_preset_written_out_and_read_back_is_itself(name: str, tmp_path: Path) -> None:
    program = load_program(name)
    assert load_program(written(tmp_path, program.model_dump(mode="json"))) == program


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase": []}, "unknown field phase; did you mean phases"),
        ({"phases": [{"weight": "draft_model"}]}, r"unknown field phases\[0\].weight; did you mean weights"),
        ({"proposal": "chains"}, "proposal"),
        ({"lossless": None}, "lossless"),
        ({"acceptance": {"law": {"kind": "constant", "rate": 1.2}, "basis": "cited", "source": "x"}}, "rate is 1.2"),
        (
            {"acceptance": {"law": {"kind": "unconditional", "rates": [0.5, 0.6]}, "basis": "cited", "source": "x"}},
            "unconditional rate 0.6 at position 2 exceeds 0.5",
        ),
        ({"acceptance": {"law": OWN["acceptance"]["law"], "basis": "guess", "source": "x"}}, "basis is 'guess'"),
        ({"phases": [{"weights": [{"kind": "target_layers", "first": 4, "last": 4}]}]}, "last must exceed first"),
        ({"phases": [{"weights": [{"kind": "target_layers", "last": 4, "exits": [2, 3]}]}]}, "list last too"),
        (
            {"phases": [{"weights": [{"kind": "target_layers", "first": 2, "last": 4, "exits": [2, 4]}]}]},
            "none before first",
        ),
        ({"verify": {"from_layer": 5}}, "from_layer is 5 and no phase runs target_layers up to there"),
        ({"phases": [{"where": "cpu", "weights": "draft_model"}]}, "a phase on the cpu runs no weights"),
        ({"phases": [{"from_layer": 3}]}, "only fused has a layer"),
        ({"phases": [{"placement": "fused", "passes": "per_token"}]}, "part of one target pass"),
        ({"phases": [{"placement": "fused", "weights": ["head"]}]}, "give its weights a phase of their own"),
        ({"phases": [{"weights": [{"kind": "head", "vocabulary": 100}]}]}, "set own: true"),
        ({"proposal": "none", "phases": [{"where": "cpu"}]}, "the proposal is none"),
        ({"proposal": {"kind": "static_tree", "nodes_per_depth": []}}, "nodes_per_depth"),
        ({"proposal": {"kind": "static_tree", "nodes_per_depth": [2, 2], "budgets": [9]}}, "exceeds the proposal's 4"),
        ({"proposal": {"kind": "static_tree", "nodes_per_depth": [4], "budgets": [4, 2]}}, "do not ascend"),
        ({"proposal": {"kind": "window", "ngram": 1, "window": 3, "guesses": 3}}, "ngram is 1"),
        ({"proposal": {"kind": "dag", "nodes": 8, "depth": 2, "top_k": 2, "merge_rate": 1.0}}, "merge_rate is 1.0"),
        ({"stop": {"threshold": 1.5, "source": "x"}}, "threshold is 1.5"),
        (
            {"proposal": "none", "phases": [], "verify": {}, "modifier": {
                "exit": {"levels": [{"depth": 0.5, "share": 0.5}], "batch": "each"}}},
            "add up to 0.5",
        ),
        (
            {"proposal": "none", "phases": [], "verify": {}, "modifier": {"exit": {
                "levels": [{"depth": 0.5, "share": 0.5}, {"depth": 0.4, "share": 0.5}], "batch": "each"}}},
            "exit depths do not ascend",
        ),
        ({"modifier": {"exit": {"levels": [{"depth": 1.0, "share": 1.0}], "batch": "each"}}}, "leaves layers out"),
        ({"modifier": {"experts": {"resident_share": 0.5, "hit_rate": 1.5, "bytes_per_s": 1e9}}}, "hit_rate is 1.5"),
    ],
)  # fmt: skip
def test_a_malformed_program_is_one_line_that_names_file_field_and_rule(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    fields = OWN | changes
    if "phases" in changes:
        fields = {"verify": {}} | {key: value for key, value in fields.items() if key != "verify"}
    path = written(tmp_path, fields)
    with pytest.raises(InvalidInput, match=said) as caught:
        load_program(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(InvalidInput, match="unknown draft program 'eagel'; did you mean eagle"):
        load_program("eagel")


@given(st.integers(0, 128))
def test_choices_are_zero_and_what_the_proposal_can_be(most: int) -> None:
    for name in ("draft-model", "eagle2", "medusa-1", "lookahead", "rest", "none", "ngram"):
        program = load_program(name)
        choices = program.choices(most)
        assert choices[0] == 0
        assert list(choices) == sorted(set(choices))
        assert all(k <= most for k in choices)
        if program.proposal.kind in ("chain", "copy"):
            assert len(choices) == most + 1
        elif not program.drafts:
            assert choices == (0,)


def test_nothing_in_the_bundled_files_is_passed_over() -> None:
    for name in program_names():
        fields = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
        kept = load_program(name).model_dump(mode="json")
        assert fields.keys() <= kept.keys()
        assert kept["figures"] == fields.get("figures", {})
        assert isinstance(load_program(name), DraftProgram)


@pytest.mark.parametrize(
    ("name", "k", "places"),
    [
        ("draft-model", 5, 5),
        ("eagle2", 60, 60),
        ("eagle2", 10, 50),  # five passes of ten after the first
        ("lookahead", 28, 28 + 27),  # a window of 7 columns and 4 generations, less the last known token
        ("medusa", 0, 0),
    ],
)
def test_places_that_a_round_fills(name: str, k: int, places: int) -> None:
    assert load_program(name).cache_places(k) == places


def test_an_exit_beyond_the_target_is_refused() -> None:
    fields = load_program("del").model_dump(exclude_none=True)
    fields["phases"][0]["weights"][0]["exits"] = (8, 40)
    with pytest.raises(InvalidInput, match=r"target_layers.exits .* is 40"):
        DraftProgram.model_validate(fields).check(load_model("llama-3.1-8b"))
