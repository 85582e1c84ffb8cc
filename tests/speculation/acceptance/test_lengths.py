"""Laws of a known acceptance length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import ConstantAcceptance
from specsim.speculation.acceptance.lengths import of_length
from specsim.speculation.program import load_program


def test_a_chain_gets_the_constant_rate() -> None:
    """(1 - 0.8^5) / (1 - 0.8) = 3.3616."""
    law = of_length(3.3616, 4)
    assert isinstance(law, ConstantAcceptance)
    assert law.rate == pytest.approx(0.8)


@given(length=st.floats(1.0, 4.0), name=st.sampled_from(["eagle3", "ngram"]))
def test_the_law_accepts_what_was_asked(length: float, name: str) -> None:
    program = load_program(name)
    assert program.acceptance is not None
    assert of_length(length, 8, program.acceptance.law).expected_tokens(8) == pytest.approx(length, abs=1e-6)


def test_a_tree_keeps_its_shape_of_recall() -> None:
    own = load_program("eagle3-tree").acceptance
    assert own is not None
    law = of_length(3.0, 20, own.law)
    assert law.expected_tokens(20) == pytest.approx(3.0)
    assert law.kind == "recall"


def test_what_no_law_can_accept_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a law of this kind has 1 to 4"):
        of_length(4.5, 3)
