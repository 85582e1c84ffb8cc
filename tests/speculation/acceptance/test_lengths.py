"""Laws of a known acceptance length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import (
    ConditionalAcceptance,
    ConstantAcceptance,
    LayerIndexedAcceptance,
    PowerLawAcceptance,
    UnconditionalAcceptance,
)
from specsim.speculation.acceptance.law import AcceptanceLaw
from specsim.speculation.acceptance.lengths import accepting_more, of_length
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


LAWS: list[AcceptanceLaw] = [
    ConstantAcceptance(rate=0.6),
    ConditionalAcceptance(rates=(0.8, 0.5, 0.7)),
    UnconditionalAcceptance(rates=(0.8, 0.4, 0.4)),
    PowerLawAcceptance(c=0.7, gamma=0.5),
    LayerIndexedAcceptance(rates={4: 0.5, 8: 0.7}, exit_layer=6),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
@given(factor=st.floats(0.3, 1.3))
def test_a_law_that_accepts_more_keeps_its_order(law: AcceptanceLaw, factor: float) -> None:
    """So many times the accepted tokens; whichever position was easier stays so."""
    other = accepting_more(law, factor, 3)
    assert other.expected_tokens(3) - 1 == pytest.approx(factor * (law.expected_tokens(3) - 1), rel=1e-6)
    before, after = law.conditional_rates(3), other.conditional_rates(3)
    assert (before.argsort(kind="stable") == after.argsort(kind="stable")).all() or law.kind == "constant"


def test_no_law_accepts_more_than_every_draft() -> None:
    assert accepting_more(ConstantAcceptance(rate=0.9), 10.0, 3).expected_tokens(3) == pytest.approx(4.0)


def test_a_rate_that_is_never_accepted_stays_so() -> None:
    law = accepting_more(ConditionalAcceptance(rates=(0.5, 0.0, 0.9)), 1.5, 3)
    assert law.conditional_rates(3).tolist() == pytest.approx([0.75, 0.0, 0.9], abs=0.2)
    assert law.expected_tokens(3) == pytest.approx(1.75)
