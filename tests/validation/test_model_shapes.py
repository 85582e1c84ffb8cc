"""The page of model shapes is what the code computes."""

from __future__ import annotations

from tests.validation.studies import STUDIES, study_module


def test_the_page_is_current() -> None:
    shapes = study_module("model-shapes", "model_shapes")
    page = (STUDIES / "model-shapes" / "README.md").read_text(encoding="utf-8")
    assert page == shapes.page(), "run python validation/studies/model-shapes/model_shapes.py"
