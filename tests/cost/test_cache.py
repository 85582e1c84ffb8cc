"""Blocks that a sequence takes, where layers keep all tokens, the last ones, or a state."""

from __future__ import annotations

import pytest

from specsim.cost.cache import UNBOUNDED, cache_layout
from specsim.specs.catalog import load_model
from specsim.specs.layer_kind import LayerKind, Recurrence
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart
from specsim.speculation.program import load_program

TOY = ModelSpec(
    name="toy", source="test", num_layers=12, hidden_size=64, num_heads=8, num_kv_heads=2, head_dim=16,
    intermediate_size=128, vocab_size=100,
)  # fmt: skip
TOKEN = 2 * 2 * 2 * 16  # bytes of one token in one layer
STATE = Recurrence(input_width=200, output_width=64, conv_channels=96, conv_kernel=4, heads=4, rows=64, columns=8)


def toy(pattern: str, **kinds: LayerKind) -> list[ModelPart]:
    return [ModelPart.whole(TOY.model_copy(update={"layer_kinds": kinds, "layer_pattern": pattern}))]


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "mixtral-8x7b"])
def test_layers_that_keep_everything_take_a_block_for_every_block_of_tokens(name: str) -> None:
    model = load_model(name)
    layout = cache_layout([ModelPart.whole(model)], 16, 16)
    assert layout.block_bytes == 16 * model.kv_bytes_per_token()
    assert [layout.blocks_for(tokens) for tokens in (1, 16, 17, 1600)] == [1, 1, 2, 100]


def test_window_layers_take_blocks_of_their_own_up_to_the_window() -> None:
    """As many windowed layers as full ones: one block each; three times as many: three."""
    even = cache_layout(toy("SF", S=LayerKind(window=128)), 16, 16)
    assert even.block_bytes == 6 * 16 * TOKEN
    assert [even.blocks_for(tokens) for tokens in (16, 64, 160, 16_000)] == [2, 8, 10 + 9, 1000 + 9]
    more = cache_layout(toy("SSSF", S=LayerKind(window=128)), 16, 16)
    assert more.block_bytes == 3 * 16 * TOKEN
    assert more.blocks_for(16_000) == 1000 + 3 * 9


def test_layers_are_grouped_as_the_engine_groups_them() -> None:
    """9 full layers beside 3 with a window: 3 groups of 3 and one of windows, whose blocks are thirds. 9 beside 2:
    5 groups of 2, a layer's room padded. 7 beside 5 differ by less than half: one group each, of 7, with 2 padded.
    """
    for full, windowed, groups, layers in ((9, 3, 3, 9), (10, 2, 5, 10), (7, 5, 1, 7)):
        spec = TOY.model_copy(
            update={
                "num_layers": full + windowed,
                "layer_kinds": {"S": LayerKind(window=128)},
                "layer_pattern": "F" * full + "S" * windowed,
            }
        )
        layout = cache_layout([ModelPart.whole(spec)], 16, 16)
        assert layout.full_groups == groups
        assert layout.block_bytes == layers * 16 * TOKEN
        assert layout.blocks_for(16_000) == 1000 + -(-9 // groups)
        assert layout.blocks_for(32) == 2 + -(-2 // groups)


def test_a_drafter_with_windows_costs_room_in_every_group() -> None:
    """DSpark beside a target of 32 full layers: the engine's log speaks of groups padded to 35 layers."""
    target = load_model("apertus-1.5-8b")
    program = load_program("dspark")
    drafter = program.own_parts(target, None)
    layout = cache_layout([ModelPart.whole(target), *drafter], 16, 16)
    assert layout.full_groups == 7
    assert layout.block_bytes == 35 / 32 * 16 * target.kv_bytes_per_token()
    plain = cache_layout([ModelPart.whole(target)], 16, 16)
    blocks = 100_000
    longest, chunk = 32_768, 16_384
    assert plain.served_tokens(blocks, longest, chunk) == 16 * blocks
    windowed = (2047 + chunk) // 16 + 2  # of a block of the windows' own, begun anywhere
    told = 7 * blocks * longest / (7 * longest / 16 + windowed)
    assert layout.served_tokens(blocks, longest, chunk) == pytest.approx(told, rel=1e-3)
    assert layout.served_tokens(blocks, longest, chunk) < layout.tokens_in(blocks)


def test_windows_alone_stop_growing() -> None:
    layout = cache_layout(toy("S", S=LayerKind(window=128)), 16, 16)
    assert layout.block_bytes == 12 * 16 * TOKEN
    assert layout.blocks_for(100_000) == layout.blocks_for(500) == 9


def test_a_state_takes_blocks_that_hold_it_whole_and_one_more_for_every_draft() -> None:
    layers = toy("LLLF", L=LayerKind(attention=False, state=STATE))
    state = 2 * (3 * 96 + 4 * 64 * 8)
    layout = cache_layout(layers, 16, 16)
    assert layout.block_tokens == 48  # 4,672 bytes of state take 37 tokens of 128 bytes: 48 in steps of 16
    assert layout.block_tokens * TOKEN >= state > (layout.block_tokens - 16) * TOKEN
    assert layout.blocks_for(48) == 1 + 3  # three groups of three state layers beside the three full layers
    assert cache_layout(layers, 16, 16, max_draft_tokens=4).blocks_for(48) == 1 + 3 * 5
    alone = cache_layout(toy("L", L=LayerKind(attention=False, state=STATE)), 16, 16)
    assert alone.block_bytes == 12 * state
    assert alone.blocks_for(1) == alone.blocks_for(10**6) == 1


def test_what_a_drafter_caches_is_part_of_every_block() -> None:
    target, drafter = load_model("llama-3.1-8b"), load_model("llama-3.2-1b")
    layout = cache_layout([ModelPart.whole(target), ModelPart.whole(drafter)], 16, 16)
    assert layout.block_bytes == 16 * (target.kv_bytes_per_token() + drafter.kv_bytes_per_token())


@pytest.mark.parametrize("pattern", ["F", "S", "SF", "SSSF", "FFFS", "FFFFFS", "LF", "LLLF", "FFFL", "L"])
@pytest.mark.parametrize("drafts", [0, 3])
def test_the_longest_sequence_that_fits_is_the_last_that_does(pattern: str, drafts: int) -> None:
    kinds = {"S": LayerKind(window=128), "L": LayerKind(attention=False, state=STATE)}
    used = {letter: kind for letter, kind in kinds.items() if letter in pattern}
    layout = cache_layout(toy(pattern, **used), 16, 16, drafts)
    for blocks in (20, 57, 1000):
        longest = layout.tokens_in(blocks)
        assert longest == UNBOUNDED or longest % layout.block_tokens == 0
        if longest:
            assert layout.blocks_for(longest) <= blocks
        if longest < UNBOUNDED:
            assert layout.blocks_for(longest + 1) > blocks
    assert layout.tokens_in(0) == 0
