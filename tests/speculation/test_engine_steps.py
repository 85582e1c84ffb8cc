"""The ``steps`` price source against a synthetic engine whose every step has a known time."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.cost.forward import Group
from specsim.errors import InvalidInput
from specsim.profiles.schema import Row
from specsim.profiles.steps import StepGrid, StepShape
from specsim.profiles.store import Profile
from specsim.speculation.engine_steps import EngineSteps, withheld_error
from specsim.speculation.round import RoundCost

GRID = StepGrid((1, 2, 4, 8, 16, 32), (0, 1, 2, 4), (100, 500, 1000, 2000), (32, 128, 512), (1, 16))
HOST_S, WEIGHTS_S, SEQUENCE_S, TOKEN_S, KEY_S, DRAFT_S = 3e-4, 6e-3, 5e-5, 2e-4, 1e-6, 4e-4


def draft_s(sequences, drafts):
    return DRAFT_S + 2e-5 * sequences * drafts if drafts else 0.0


def verify_s(shape):
    tokens = shape.tokens
    keys = shape.sequences * shape.kv_len
    chunk_pairs = shape.prefill_tokens**2 + (shape.query_len * shape.kv_len if shape.chunk else 0)
    return WEIGHTS_S + SEQUENCE_S * shape.sequences + TOKEN_S * tokens + KEY_S * keys + 1e-9 * chunk_pairs


def total_s(shape):
    return HOST_S + verify_s(shape) + draft_s(shape.sequences, shape.num_draft_tokens)


def row(shape, part, seconds, *, model="m", drafter="ngram"):
    kernel = f"vllm 0.32.0/{model}/{drafter if shape.num_draft_tokens else 'none'}"
    return Row(
        shape.columns(),
        part,
        "bfloat16",
        kernel,
        "cold",
        "eager",
        seconds,
        0.99 * seconds,
        1.01 * seconds,
        15,
    )


def table(*, parts=("total", "verify", "draft", "host"), shapes=None, **names):
    rows = []
    for shape in GRID.shapes() if shapes is None else shapes:
        times = {
            "total": total_s(shape),
            "verify": verify_s(shape),
            "host": HOST_S,
            "draft": draft_s(shape.sequences, shape.num_draft_tokens),
        }
        rows += [row(shape, part, times[part], **names) for part in parts if times[part] > 0]
    return rows


@pytest.fixture(scope="module")
def engine():
    return EngineSteps(table())


def test_it_has_roundcosts_two_methods():
    for name in ("step", "decode_round"):
        own, other = (inspect.signature(getattr(cls, name)).parameters for cls in (EngineSteps, RoundCost))
        assert [(p.name, p.kind) for p in own.values()] == [(p.name, p.kind) for p in other.values()]


@pytest.mark.parametrize("drafts", [0, 1, 3, 4])
@pytest.mark.parametrize(("batch", "context"), [(1, 200), (5, 700), (16, 1500), (32, 1990)])
def test_a_round_costs_what_the_engine_takes(engine, batch, context, drafts):
    time = engine.decode_round(batch, drafts, context)
    assert time.seconds == pytest.approx(total_s(StepShape(batch, drafts + 1, context + drafts, drafts)), rel=0.01)
    assert time.low_s <= time.seconds <= time.high_s
    assert sum(time.parts.values()) == pytest.approx(time.seconds)
    assert time.source == "interpolated"
    assert engine.decode_round(batch, drafts, GRID.kv_lens[1] - drafts).source == (
        "measured" if batch in GRID.sequences and drafts in GRID.draft_lengths else "interpolated"
    )


def test_a_step_that_drafts_otherwise_than_it_verified_differs_by_the_drafting(engine):
    verify = [Group(8, 5, 1000, 5)]
    as_many = engine.step(verify, drafting=8, draft_tokens=4, drafting_kv_tokens=1000)
    fewer = engine.step(verify, drafting=8, draft_tokens=1, drafting_kv_tokens=1000)
    none = engine.step(verify, drafting=8, draft_tokens=0, drafting_kv_tokens=1000)
    assert as_many.seconds - fewer.seconds == pytest.approx(draft_s(8, 4) - draft_s(8, 1), rel=1e-3)
    assert as_many.seconds - none.seconds == pytest.approx(draft_s(8, 4), rel=1e-3)
    assert none.parts["draft"] == 0.0


def test_the_first_draft_after_a_plain_step_is_added_to_it(engine):
    plain = engine.decode_round(8, 0, 1000)
    drafting = engine.step([Group(8, 1, 1000)], drafting=8, draft_tokens=4, drafting_kv_tokens=1000)
    assert drafting.seconds - plain.seconds == pytest.approx(draft_s(8, 4), rel=1e-3)


def test_a_draft_model_passes_over_new_tokens_without_drafting_too(engine):
    """Its KV cache has them then; a look-up has none."""
    caching = EngineSteps(table(), draft_model=True)
    asked = {"drafting": 8, "draft_tokens": 0, "drafting_kv_tokens": 1000}
    plain = [Group(8, 1, 1000)]
    assert caching.step(plain, **asked).seconds - engine.step(plain, **asked).seconds == pytest.approx(
        draft_s(8, 1), rel=1e-3
    )
    one, none = (caching.step(plain, **asked | {"draft_tokens": drafts}).seconds for drafts in (1, 0))
    assert one == pytest.approx(none)


@pytest.mark.parametrize("chunk", [50, 128, 400])
@pytest.mark.parametrize("drafts", [0, 4])
def test_a_prompt_chunk_rides_along(engine, chunk, drafts):
    """No step that mixes the two is fitted to; the synthetic engine reads its weights once for both."""
    groups = [Group(16, drafts + 1, 1000, drafts + 1), Group(1, chunk, chunk)]
    time = engine.step(groups, drafting=16, draft_tokens=drafts, drafting_kv_tokens=1000)
    assert time.seconds == pytest.approx(total_s(StepShape(16, drafts + 1, 1000, drafts, chunk)), rel=0.03)


def test_prompt_chunks_alone_share_the_weights(engine):
    one = engine.step([Group(1, 128, 128)], drafting=0, draft_tokens=0, drafting_kv_tokens=0)
    assert one.seconds == pytest.approx(total_s(StepShape(1, 128, 128)), rel=0.02)
    for two in ([Group(2, 128, 128)], [Group(1, 128, 128)] * 2):
        both = engine.step(two, drafting=0, draft_tokens=0, drafting_kv_tokens=0)
        assert both.seconds == pytest.approx(2 * one.seconds - total_s(StepShape(1, 1, 100)), rel=1e-3)


def test_groups_of_one_width_count_as_one(engine):
    split = [Group(3, 3, 400, 3), Group(5, 3, 1200, 3)]
    mean = [Group(8, 3, 900, 3)]
    times = [engine.step(g, drafting=8, draft_tokens=2, drafting_kv_tokens=900).seconds for g in (split, mean)]
    assert times[0] == pytest.approx(times[1], rel=1e-12)


@settings(max_examples=30)
@given(
    batches=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    contexts=st.lists(st.integers(10, 3000), min_size=1, max_size=3),
    drafts=st.integers(0, 6),
)
def test_a_map_of_arrays_is_the_map_of_its_cells(batches, contexts, drafts):
    found = ENGINE.decode_round(np.array(batches)[:, None], drafts, np.array(contexts, dtype=float)[None, :])
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            one = ENGINE.decode_round(batch, drafts, float(context))
            for field in ("seconds", "low_s", "high_s"):
                assert getattr(found, field)[i, j] == pytest.approx(getattr(one, field), rel=1e-9)
            assert (found.source[i, j] == "extrapolated") == (one.source == "extrapolated")
            assert found.bound[i, j] == one.bound


ENGINE = EngineSteps(table())


def test_beyond_the_table_it_says_so_and_is_less_sure(engine):
    inside, outside = engine.decode_round(32, 4, 1000), engine.decode_round(64, 4, 1000)
    assert (inside.source, outside.source) == ("interpolated", "extrapolated")
    assert outside.seconds == pytest.approx(total_s(StepShape(64, 5, 1004, 4)), rel=0.05)

    def width(time):
        return (time.high_s - time.low_s) / time.seconds

    assert width(outside) > width(inside)


def test_the_machines_drift_widens_the_interval():
    drifting = EngineSteps(table(), machine_error=0.05).decode_round(8, 2, 700)
    steady = ENGINE.decode_round(8, 2, 700)
    assert drifting.seconds == steady.seconds
    half = math.hypot(steady.high_s - steady.seconds, 1.645 * 0.05 * steady.seconds)
    assert drifting.high_s - drifting.seconds == pytest.approx(half, rel=1e-6)


def test_a_drafters_passes_are_told_from_its_tokens():
    """Passes of a draft model take a time each, whatever the batch."""

    def passes_s(sequences, drafts):
        return 3e-3 * drafts + 2e-5 * sequences * drafts

    rows = [
        row(
            shape,
            part,
            {
                "total": 8e-3 + passes_s(shape.sequences, shape.num_draft_tokens),
                "draft": passes_s(shape.sequences, shape.num_draft_tokens),
            }[part],
        )
        for shape in GRID.shapes()
        for part in ("total", "draft")
        if not shape.prefill_tokens
    ]
    engine = EngineSteps([one for one in rows if one.median_s])
    for batch, k in ((1, 4), (4, 1), (32, 2)):
        assert engine.decode_round(batch, k, 500).parts["draft"] == pytest.approx(passes_s(batch, k), rel=0.02)


@pytest.mark.parametrize(("device", "error"), [("cpu", 0.122), ("cuda", 0.07)])
def test_a_table_knows_its_machine_as_its_profile_does(tmp_path, device, error):
    """Of a table without a probe, and of a CPU in another hour."""
    steps = EngineSteps.of(profile(tmp_path, table(), device=device), model="m").decode_round(8, 2, 500)
    assert steps.errors_s["machine"] / steps.seconds == pytest.approx(error, abs=0.001)


def test_without_totals_the_parts_add_up():
    rows = table(parts=("verify", "draft", "host"))
    assert EngineSteps(rows).decode_round(8, 4, 700).seconds == pytest.approx(
        ENGINE.decode_round(8, 4, 700).seconds, rel=1e-3
    )


def test_without_measured_drafting_it_is_not_told_apart():
    time = EngineSteps(table(parts=("total",))).decode_round(8, 4, 1000)
    assert time.parts.keys() == {"verify"}
    assert time.parts["verify"] == time.seconds


def test_withheld_error_of_a_known_engine_is_small_and_needs_enough_rows():
    error = withheld_error(table())
    assert error is not None
    assert error.n == len(GRID.sequences) * len(GRID.draft_lengths) * len(GRID.kv_lens) / 2
    assert error.median < 0.005
    assert withheld_error(table(shapes=GRID.shapes()[:8])) is None


# -- choosing rows ----------------------------------------------------------------------------------------------


def profile(tmp_path, rows, device="cuda"):
    header = SimpleNamespace(probe=None, device=device)  # of a table by another tool
    return Profile("here-vllm", tmp_path, header, {"steps": tuple(rows)})


def test_rows_are_chosen_by_model_and_drafter(tmp_path):
    slower = [shape for shape in GRID.shapes() if shape.num_draft_tokens]
    rows = table() + [row(shape, "total", 2 * total_s(shape), drafter="llama-6m") for shape in slower]
    held = profile(tmp_path, rows)
    fast, slow = (EngineSteps.of(held, model="m", drafter=name) for name in ("ngram", "llama-6m"))
    assert fast.decode_round(4, 2, 500).seconds == pytest.approx(total_s(StepShape(4, 3, 502, 2)), rel=0.01)
    assert slow.decode_round(4, 2, 500).seconds > 1.8 * fast.decode_round(4, 2, 500).seconds
    with pytest.raises(InvalidInput, match="holds drafters llama-6m, ngram; name one"):
        EngineSteps.of(held, model="m")
    with pytest.raises(InvalidInput, match="not eagle"):
        EngineSteps.of(held, model="m", drafter="eagle")


def test_another_model_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="holds m, not steps of llama"):
        EngineSteps.of(profile(tmp_path, table()), model="llama")
    with pytest.raises(InvalidInput, match="holds no steps"):
        EngineSteps.of(profile(tmp_path, []), model="m")


def test_a_table_of_prompts_alone_is_refused():
    with pytest.raises(InvalidInput, match="no decode step"):
        EngineSteps(table(shapes=[StepShape(1, 128, 128)]))
