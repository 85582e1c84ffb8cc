"""Seventy models of sixty model types: their config.json gives the published count, and the cache that facts give."""

from __future__ import annotations

import ast
import json
import math
import operator
from pathlib import Path
from typing import Any

import pytest
import yaml

from specsim.interop.huggingface import model_from_config
from specsim.specs.catalog import load_model
from specsim.specs.model import ModelSpec

TABLE = Path(__file__).parents[2] / "validation" / "studies" / "model-shapes" / "published.yaml"
ROWS: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
OPERATIONS = {ast.Add: operator.add, ast.Mult: operator.mul, ast.Div: operator.truediv}


def value(text: object) -> float:
    """A sum of products as the table writes it out."""

    def of(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp):
            return float(OPERATIONS[type(node.op)](of(node.left), of(node.right)))
        assert isinstance(node, ast.Constant)
        return float(node.value)  # type: ignore[arg-type]

    return of(ast.parse(str(text), mode="eval").body)


def read(row: dict[str, Any]) -> ModelSpec:
    return model_from_config(row["config"])


def test_the_table_has_enough_models_and_families() -> None:
    assert len(ROWS) >= 40
    assert len({row["config"]["model_type"] for row in ROWS}) >= 20
    assert len({row["hub"] for row in ROWS}) == len(ROWS)
    assert all(row["source"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["hub"])
def test_a_model_has_its_published_size_and_cache(row: dict[str, Any]) -> None:
    model = read(row)
    assert model.parameter_count() / 1e9 == pytest.approx(row["parameters"], rel=0.01)
    assert model.kv_bytes_per_token() == value(row["kv"])
    assert model.state_bytes() == value(row.get("state", 0))


@pytest.mark.parametrize("row", [row for row in ROWS if "preset" in row], ids=lambda row: row["preset"])
def test_the_preset_of_a_row_has_its_shape(row: dict[str, Any]) -> None:
    told = {"name", "source"}
    assert load_model(row["preset"]).model_dump(exclude=told) == read(row).model_dump(exclude=told)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["hub"])
def test_ranks_hold_equal_shares(row: dict[str, Any]) -> None:
    """Two ranks: matrices are halved but for indexers, routers, compressors and what brings queries and keys down."""
    model = read(row)
    if model.num_heads % 2:
        pytest.skip("an odd number of heads cannot be shared by two")
    half = model.shard(2)
    assert len(half.layers()) == len(model.layers())
    whole, share = model.active_parameter_count(), half.active_parameter_count()
    assert 0.45 * whole < share < 0.8 * whole
    assert half.kv_bytes_per_token() >= model.kv_bytes_per_token() / 2


def test_a_table_of_a_layers_own_is_read_as_a_list(tmp_path: Path) -> None:
    """Hunyuan's files give experts, their width and how many run for each layer."""
    row = next(row for row in ROWS if row["hub"] == "tencent/Hunyuan-A13B-Instruct")
    lists = {name: [row["config"][name]] * 32 for name in ("moe_topk", "moe_intermediate_size", "num_shared_expert")}
    (tmp_path / "config.json").write_text(json.dumps(row["config"] | lists), encoding="utf-8")
    found = model_from_config(tmp_path)
    assert math.isclose(found.parameter_count(), read(row).parameter_count())
