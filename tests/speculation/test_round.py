"""Closed forms that the general machine must give, with pass times imposed by made-up prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.arrays import Reals
from specsim.cost.forward import Group, Kernel, Precision, Price
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.engine import EngineLimits
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance import ConstantAcceptance, RecallAcceptance
from specsim.speculation.program import DraftProgram
from specsim.speculation.round import RoundCost
from specsim.speculation.tree import RecallTable

H200, BF16 = load_hardware("h200"), Precision(16, 16, "bfloat16")
LLAMA, SMALL = load_model("llama-3.1-8b"), load_model("llama-3.2-1b")
FREE = EngineLimits(graph_sizes=(), host_step_s=0.0, host_draft_pass_s=0.0)  # a host that costs nothing
LAUNCHLESS = H200.model_copy(update={"launch_s": 0.0})


class Imposed:
    """A machine on which a launch of a kernel takes what a function says."""

    name = "imposed"
    machine_error = 0.0

    def __init__(self, seconds: Callable[[Kernel], Reals]) -> None:
        self._seconds = seconds

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        return Price(self._seconds(kernel), 0.0, 0.0, 0.0)

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return 0.0


def program(**fields: Any) -> DraftProgram:
    return DraftProgram.model_validate(
        {"name": "test", "source": "test", "lossless": True, "proposal": "chain"} | fields
    )


def cost(
    seconds: Callable[[Kernel], Reals], technique: DraftProgram | None, draft: ModelSpec | None = None
) -> RoundCost:
    return RoundCost(
        LLAMA, Imposed(seconds), hardware=LAUNCHLESS, engine=FREE, precision=BF16, program=technique, draft=draft
    )


TWO_MODEL = program(phases=[{"weights": "draft_model", "passes": "per_token"}])


def a_pass(share: float) -> Callable[[Kernel], float]:
    """A pass of the target takes 1 s, one of the draft model ``share``, whatever their width: the head's launch."""
    return lambda k: 0.0 if k.part != "lm_head" else 1.0 if k.shape[2] == LLAMA.hidden_size else share


def by_flops(kernel: Kernel) -> Reals:
    """Compute-bound products; the rest is free."""
    return kernel.flops * 1e-12 if kernel.kind == "gemm" else 0.0


@given(st.floats(0.05, 0.95), st.floats(0.01, 0.9), st.integers(1, 12))
@settings(max_examples=40)
def test_two_models_give_the_walltime_factor(alpha: float, c: float, k: int) -> None:
    """(1 - α^(k+1)) / ((1 - α)(kc + 1)), arXiv 2211.17192, theorem 3.8."""
    machine = cost(a_pass(c), TWO_MODEL, SMALL)
    plain, spent = (float(machine.decode_round(1, n, 100.0).seconds) for n in (0, k))
    tokens = ConstantAcceptance(rate=alpha).expected_tokens(k)
    assert tokens * plain / spent == pytest.approx((1 - alpha ** (k + 1)) / ((1 - alpha) * (k * c + 1)))


@given(st.integers(1, 31), st.integers(1, 10), st.floats(0.05, 0.95))
@settings(max_examples=40)
def test_counting_layers_gives_tokens_per_layer(layers: int, k: int, alpha: float) -> None:
    """[(1 - α^(k+1)) / (1 - α)] / (k·l + L), arXiv 2504.05598: the closing pass and the deep part make one L."""
    technique = program(
        phases=[{"weights": [{"kind": "target_layers", "last": layers}], "passes": "per_token", "first_pass": "last"}],
        verify={"from_layer": layers},
    )
    machine = cost(lambda kernel: 1.0 if kernel.kind == "attention" else 0.0, technique)
    tokens = ConstantAcceptance(rate=alpha).expected_tokens(k)
    per_layer = tokens / float(machine.decode_round(1, k, 100.0).seconds)
    assert per_layer == pytest.approx((1 - alpha ** (k + 1)) / (1 - alpha) / (k * layers + 32))


def test_the_exit_layer_saves_the_shallow_part_of_the_wide_pass() -> None:
    """FLOPs: layers below the exit run once a draft and once to close, none of them for the wide pass."""
    k, layers = 5, 8
    phase = {"weights": [{"kind": "target_layers", "last": layers}, {"kind": "head"}], "passes": "per_token"}
    shared, apart = (
        cost(by_flops, program(phases=[phase | {"first_pass": "last"}], verify=plan)).decode_round(9, k, 50.0).seconds
        for plan in ({"from_layer": layers}, {})
    )
    a_layer = by_layer_flops(LLAMA)
    assert apart - shared == pytest.approx(9 * k * layers * a_layer * 1e-12)


def by_layer_flops(model: ModelSpec) -> float:
    """Products of one token through one layer."""
    return 2.0 * sum(m.n * m.k for m in model.linears() if m.name != "lm_head")


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_tree_with_one_child_is_a_chain(k: int) -> None:
    phase = {"weights": "draft_model", "passes": "depth", "width": "proposal"}
    tree = program(phases=[phase], proposal={"kind": "static_tree", "nodes_per_depth": [1] * k})
    everything = lambda kernel: kernel.flops * 1e-12 + kernel.bytes * 1e-11  # noqa: E731
    for batch in (1, 32):
        one, other = (
            cost(everything, technique, SMALL).decode_round(batch, k, 300.0) for technique in (tree, TWO_MODEL)
        )
        assert one.seconds == pytest.approx(other.seconds, rel=1e-12)
    recall = RecallAcceptance(table=RecallTable(recall=((0.6,),) * k), tree=tuple(range(-1, k - 1)))
    assert recall.expected_tokens(k) == pytest.approx(ConstantAcceptance(rate=0.6).expected_tokens(k))
    assert tree.choices(k) == (0, k)
    assert TWO_MODEL.choices(k) == tuple(range(k + 1))


@pytest.mark.parametrize("k", [1, 4])
def test_a_self_draft_without_exit_is_two_models_with_shared_weights(k: int) -> None:
    every = [{"kind": "target_sublayers", "attention_share": 1, "mlp_share": 1}, {"kind": "head"}]
    seconds = lambda kernel: kernel.flops * 1e-12 + kernel.bytes * 1e-11 + 1e-6  # noqa: E731
    own, two = (
        program(phases=[{"weights": weights, "passes": "per_token", "first_pass": "last"}])
        for weights in (every, "draft_model")
    )
    shared = cost(seconds, own).decode_round(8, k, 400.0)
    apart = cost(seconds, two, LLAMA).decode_round(8, k, 400.0)
    assert shared.seconds == pytest.approx(apart.seconds, rel=1e-12)
    assert own.own_parts(LLAMA, None) == ()
    assert two.own_parts(LLAMA, LLAMA)[0].parameter_count() == LLAMA.parameter_count()


@pytest.mark.parametrize("k", [0, 1, 3])
def test_without_verification_and_drafting_cost_a_round_is_plain_decoding(k: int) -> None:
    free = program(phases=[{"where": "cpu"}], verify={"rule": "none"}, lossless=False)
    one, plain = (cost(by_flops, technique).decode_round(16, n, 700.0) for technique, n in ((free, k), (None, 0)))
    assert one.seconds == plain.seconds
    assert not free.verifies


@pytest.mark.parametrize("k", [1, 4, 7])
def test_compute_bound_without_context_the_speedup_is_tokens_over_work(k: int) -> None:
    """AL / (k + 1 + draft FLOPs of the round ÷ target FLOPs of a token): batch → ∞, KV → 0, so products alone count.

    A draft model's first pass carries k + 1 tokens, later ones 1: 2k tokens through its layers, k through its head.
    """
    machine = cost(by_flops, TWO_MODEL, SMALL)
    plain, spent = (float(machine.decode_round(100_000, n, 0.0).seconds) for n in (0, k))
    head = 2.0 * SMALL.vocab_size * SMALL.hidden_size
    draft = 2 * k * by_layer_flops(SMALL) * SMALL.num_layers + k * head
    target = by_layer_flops(LLAMA) * LLAMA.num_layers + 2.0 * LLAMA.vocab_size * LLAMA.hidden_size
    assert spent / plain == pytest.approx(k + 1 + draft / target)


@given(st.floats(0.05, 3.0), st.integers(1, 8))
@settings(max_examples=30)
def test_overlapped_drafting_takes_the_longer_of_the_two(c: float, k: int) -> None:
    """PEARL (arXiv 2408.11850): max(draft, verify) where the same phases in sequence add up."""
    phase = {"weights": "draft_model", "passes": "per_token"}
    beside = program(phases=[phase | {"placement": "overlapped"}])
    assert float(cost(a_pass(c), beside, SMALL).decode_round(1, k, 9.0).seconds) == pytest.approx(max(1.0, k * c))
    assert float(cost(a_pass(c), TWO_MODEL, SMALL).decode_round(1, k, 9.0).seconds) == pytest.approx(1 + k * c)


def tokens_through_layers(machine: RoundCost, k: int) -> float:
    """Tokens times layers of a round of one sequence, where a product costs its rows."""
    return float(machine.decode_round(1, k, 100.0).seconds)


def test_fused_tokens_run_in_the_layers_above_only() -> None:
    """3 pseudo positions from layer 20 of 32 on beside 1 + 12 tokens: 13·32 + 3·12."""
    fused = program(
        phases=[{"placement": "fused", "from_layer": 20, "width": 3}],
        proposal={"kind": "static_tree", "nodes_per_depth": [4, 4, 4]},
    )

    def rows(kernel: Kernel) -> Reals:
        return (
            kernel.shape[0]
            if kernel.kind == "gemm"
            and kernel.shape[1] == LLAMA.hidden_size
            and (kernel.shape[2] == LLAMA.intermediate_size)
            else 0.0
        )

    assert tokens_through_layers(cost(rows, fused), 12) == 13 * 32 + 3 * 12
    assert tokens_through_layers(cost(rows, fused), 0) == 32
    window = program(
        phases=[{"placement": "fused", "width": "proposal"}],
        proposal={"kind": "window", "ngram": 5, "window": 7, "guesses": 7},
    )
    assert window.choices(100) == (0, 28)
    assert tokens_through_layers(cost(rows, window), 28) == 32 * 56  # (N - 1)(W + G), arXiv 2402.02057


def test_parallel_drafting_takes_one_pass_of_any_length() -> None:
    technique = program(phases=[{"weights": "draft_model", "passes": 1, "width": "per_token"}])
    machine = cost(a_pass(0.2), technique, SMALL)
    assert [float(machine.decode_round(1, k, 9.0).seconds) for k in (1, 5, 12)] == pytest.approx([1.2] * 3)


@pytest.mark.parametrize(
    ("proposal", "k", "widths"),
    [
        ({"kind": "static_tree", "nodes_per_depth": [4, 8, 8, 3, 2]}, 25, (1, 4, 8, 3, 2)),
        ({"kind": "dynamic_tree", "nodes": 60, "depth": 4, "top_k": 10}, 60, (1, 10, 10, 10)),
        ({"kind": "dynamic_tree", "nodes": 60, "depth": 4, "top_k": 10}, 6, (1, 6, 6, 6)),
        ({"kind": "dag", "nodes": 100, "depth": 3, "top_k": 10, "merge_rate": 0.2}, 100, (1, 8, 8)),
        ({"kind": "chain"}, 3, (1, 1, 1)),
        ({"kind": "chain"}, 0, ()),
    ],
)
def test_trees_grow_in_as_many_passes_as_they_are_deep(
    proposal: dict[str, Any], k: int, widths: Sequence[int]
) -> None:
    kind = "per_token" if proposal["kind"] == "chain" else "depth"
    technique = program(phases=[{"weights": "draft_model", "passes": kind, "width": "proposal"}], proposal=proposal)
    assert technique.phases[0].pass_widths(technique.proposal, k) == tuple(widths)


def test_of_a_verified_tree_the_drafter_sees_one_path_at_most() -> None:
    """25 nodes, 5 deep: 6 tokens in the first pass, then 4 + 8 + 3 + 2, against k + 1 = 26 of a chain."""

    def rows(kernel: Kernel) -> Reals:
        return kernel.shape[0] if kernel.kind == "gemm" and kernel.shape[1:] == (2048.0, 8192.0) else 0.0

    phase = {"weights": "draft_model", "passes": "depth", "width": "proposal"}
    tree = program(phases=[phase], proposal={"kind": "static_tree", "nodes_per_depth": [4, 8, 8, 3, 2]})
    layers = SMALL.num_layers  # whose products down from 8192 to 2048 tell the rows
    assert float(cost(rows, tree, SMALL).decode_round(1, 25, 100.0).seconds) == (6 + 4 + 8 + 3 + 2) * layers
    assert float(cost(rows, TWO_MODEL, SMALL).decode_round(1, 25, 100.0).seconds) == (26 + 24) * layers


EXITS = [{"depth": 0.5, "share": 0.5}, {"depth": 1.0, "share": 0.5}]


@pytest.mark.parametrize(
    ("batch_rule", "batch", "layers"),
    [
        ("together", 8, 16 + 0.5 * 16),  # all leave half way in half of the passes
        ("deepest", 2, 16 + 0.75 * 16),  # one of two is enough to run all
        ("each", 2, 16 + 0.75 * 16),
        ("deepest", 64, 32),
    ],
)
def test_early_exit_runs_layers_as_often_as_a_batch_needs_them(batch_rule: str, batch: int, layers: float) -> None:
    technique = program(proposal="none", modifier={"exit": {"levels": EXITS, "batch": batch_rule}}, lossless=False)
    machine = cost(lambda kernel: 1.0 if kernel.kind == "attention" else 0.0, technique)
    assert float(machine.decode_round(batch, 0, 100.0).seconds) == pytest.approx(layers)


def test_tokens_that_left_alone_are_computed_no_further() -> None:
    """FLOPs of the upper half: those that are left where each leaves alone, all where all wait for the deepest."""
    found = {}
    for rule in ("each", "deepest"):
        technique = program(proposal="none", modifier={"exit": {"levels": EXITS, "batch": rule}}, lossless=False)
        found[rule] = float(cost(by_flops, technique).decode_round(1000, 0, 0.0).seconds)
    half = 1000 * 16 * by_layer_flops(LLAMA) * 1e-12
    assert found["deepest"] - found["each"] == pytest.approx(0.5 * half)


@pytest.mark.parametrize("rule", ["each", "deepest", "together"])
def test_a_modifier_that_changes_nothing_costs_nothing(rule: str) -> None:
    neutral = program(
        proposal="none",
        lossless=False,
        modifier={"exit": {"levels": [{"depth": 1.0, "share": 1.0}], "batch": rule}},
    )
    seconds = lambda kernel: kernel.flops * 1e-12 + kernel.bytes * 1e-11  # noqa: E731
    one, plain = (cost(seconds, technique).decode_round(7, 0, 90.0).seconds for technique in (neutral, None))
    assert one == pytest.approx(plain, rel=1e-12)


def test_beams_are_so_many_sequences() -> None:
    beams = program(proposal="none", modifier={"sequences": 4}, lossless=False)
    one, four = (cost(by_flops, t).decode_round(b, 0, 50.0).seconds for t, b in ((beams, 3), (None, 12)))
    assert one == four


def test_experts_on_the_host_are_loaded_but_for_what_was_foreseen() -> None:
    """Mixtral, one token: 2 of 8 experts in each of 32 layers, half of them resident, at 1 GB/s."""
    mixtral = load_model("mixtral-8x7b")

    def exposed(**given: float) -> float:
        modifier = {"experts": {"resident_share": 0.5, "hit_rate": 0.0, "bytes_per_s": 1e9} | given}
        machine = RoundCost(
            mixtral,
            Imposed(lambda kernel: 0.0 if kernel.kind != "attention" else 0.1),
            hardware=LAUNCHLESS,
            engine=FREE,
            precision=BF16,
            program=program(proposal="none", modifier=modifier),
        )
        return float(machine.decode_round(1, 0, 10.0).seconds) - 3.2  # 32 layers of 0.1 s

    one_expert = 3 * 4096 * 14336 * 2 / 1e9
    assert exposed() == pytest.approx(0.5 * 2 * 32 * one_expert)
    assert exposed(resident_share=1.0) == pytest.approx(0.0, abs=1e-12)
    loads = 0.5 * 2 * 32 * one_expert
    assert exposed(hit_rate=1.0) == pytest.approx(loads - 3.2)  # no more is hidden than the pass is long
    assert exposed(hit_rate=0.1) == pytest.approx(0.9 * loads)


def test_narrow_weights_move_fewer_bytes_and_pay_for_unpacking() -> None:
    def narrow(operations: float) -> DraftProgram:
        weights = {"bits": 4, "group_size": 128, "operations_per_weight": operations}
        return program(proposal="none", modifier={"weights": weights}, lossless=False)

    layers = sum(m.n * m.k * m.count for m in LLAMA.linears() if m.name != "lm_head")
    moved = lambda kernel: kernel.bytes * 1e-12 if kernel.kind == "gemm" else 0.0  # noqa: E731
    plain, four = (float(cost(moved, t).decode_round(1, 0, 0.0).seconds) for t in (None, narrow(0.0)))
    assert plain - four == pytest.approx(layers * (16 - 4.125) / 8 * 1e-12)
    unpack = lambda kernel: kernel.flops * 1e-12 if kernel.operation == "unpack" else 0.0  # noqa: E731
    assert float(cost(unpack, narrow(2.0)).decode_round(64, 0, 0.0).seconds) == pytest.approx(2 * layers * 1e-12)


def test_prompts_fill_the_drafters_own_cache_and_no_shared_one() -> None:
    """A chunk of 100 tokens, nothing that drafts: the adapter runs over it, the target's layers in its pass alone."""
    chunk = [Group(1, 100, 100.0, 0)]

    def queries(technique: DraftProgram | None, k: int) -> float:
        machine = cost(lambda kernel: 1.0 if kernel.kind == "attention" else 0.0, technique)
        return float(machine.step(chunk, drafting=0, draft_tokens=k, drafting_kv_tokens=0.0).seconds)

    own = [{"kind": "target_layers", "last": 2}, {"kind": "layers", "attention": 1}, {"kind": "head"}]
    technique = program(
        phases=[{"weights": own, "passes": "per_token", "first_pass": "last"}], verify={"from_layer": 2}
    )
    assert queries(None, 0) == 32
    assert queries(technique, 0) == 32
    assert queries(technique, 4) == 33


def test_context_that_enters_as_keys_runs_through_one_product() -> None:
    """40 sequences of 3 tokens beside a chunk of 100, and 4 drafts each: 5 layers see 160 tokens, one product 220."""
    layers = {"kind": "layers", "attention": 5, "mlp": 5, "context": "keys"}
    keyed = program(phases=[{"weights": [layers, {"kind": "head"}], "width": "per_token"}])
    keys = 5 * 2 * LLAMA.num_kv_heads * LLAMA.head_dim

    def drafted(wanted: Callable[[Kernel], bool], k: int) -> float:
        machine = cost(lambda kernel: float(kernel.kind == "gemm" and wanted(kernel)) * kernel.shape[0], keyed)
        groups = [Group(40, 3, 500.0, 3), Group(1, 100, 100.0, 0)]
        step = machine.step(groups, drafting=40, draft_tokens=k, drafting_kv_tokens=500.0)
        return float(step.parts.get("draft", 0.0))

    assert drafted(lambda kernel: kernel.shape[1] == keys, 4) == 40 * 3 + 100
    assert drafted(lambda kernel: kernel.shape[2] == LLAMA.intermediate_size, 4) == 5 * 40 * 4
    assert drafted(lambda kernel: kernel.shape[1] == LLAMA.vocab_size, 4) == 40 * 4


def test_each_of_the_targets_logits_is_moved_as_often_as_the_engine_says() -> None:
    """64 sequences of 4 rows over 128,256 values at 14 bytes each; drafts come from 64 rows in 16 bits."""

    def moved(kernel: Kernel) -> Reals:
        return kernel.bytes if kernel.kind == "sampling" else 0.0

    machine = RoundCost(
        LLAMA,
        Imposed(moved),
        hardware=LAUNCHLESS,
        engine=FREE.model_copy(update={"logit_bytes": 14.0}),
        precision=BF16,
        program=program(phases=[{"weights": [{"kind": "head"}]}]),
        max_draft_tokens=3,
    )
    round_ = machine.decode_round(64, 3, 500.0)
    assert float(round_.parts["sampling"]) == 14 * 64 * 4 * LLAMA.vocab_size
    assert float(round_.parts["draft"]) == 2 * 64 * LLAMA.vocab_size


def test_the_host_pays_for_drafts_where_some_are_verified() -> None:
    """Two seconds a verifying sequence; a step of a prompt alone, after which drafting begins, verifies none."""

    class Verifying(Imposed):
        def host_s(self, part: str, sequences: Reals) -> Reals | None:
            return 2.0 * sequences if part == "drafts" else 0.0

    engine = EngineLimits(graph_sizes=())
    machine = RoundCost(
        LLAMA,
        Verifying(lambda kernel: 0.0),
        hardware=LAUNCHLESS,
        engine=engine,
        precision=BF16,
        program=TWO_MODEL,
        draft=SMALL,
    )
    prompt, decoding = Group(1, 100, 100.0, 1), Group(3, 5, 200.0, 5)

    def seconds(*groups: Group, drafting: int) -> float:
        return float(machine.step(groups, drafting=drafting, draft_tokens=4, drafting_kv_tokens=100.0).seconds)

    assert seconds(prompt, drafting=1) == 0.0
    assert seconds(decoding, drafting=3) == 6.0
    assert seconds(prompt, decoding, drafting=4) == 6.0


def test_maps_are_priced_at_once() -> None:
    technique = program(proposal="none", modifier={"exit": {"levels": EXITS, "batch": "each"}}, lossless=False)
    seconds = lambda kernel: kernel.flops * 1e-12 + kernel.bytes * 1e-11  # noqa: E731
    batches, contexts = np.array([1.0, 5.0]), np.array([10.0, 500.0])
    many = np.asarray(cost(seconds, technique).decode_round(batches[:, None], 0, contexts[None, :]).seconds)
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            one = cost(seconds, technique).decode_round(int(batch), 0, float(context)).seconds
            assert many[i, j] == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "operations"),
    [("exact", set()), ("rejection", {"softmax", "rejection"}), ("typical", {"softmax"}), ("none", set())],
)
def test_a_rule_computes_over_the_rows_it_judges(rule: str, operations: set[str]) -> None:
    """8 sequences of k + 1 = 5 rows; a step without drafts pays for its greedy choice alone, whatever the rule."""
    seen: list[tuple[str, float]] = []

    def record(kernel: Kernel) -> float:
        if kernel.kind == "sampling":
            seen.append((kernel.operation, float(np.max(kernel.shape[0]))))
        return 0.0

    technique = program(phases=[{"where": "cpu"}], verify={"rule": rule}, lossless=rule != "typical")
    cost(record, technique).decode_round(8, 0, 100.0)
    assert seen == [("greedy", 8.0)]
    seen.clear()
    cost(record, technique).decode_round(8, 4, 100.0)
    rows = 8.0 if rule == "none" else 40.0
    assert set(seen) == {("greedy", rows), *((operation, rows) for operation in operations)}


def test_attention_of_a_padded_batch_reads_its_longest_and_a_prompt_its_own() -> None:
    """9 sequences within a quarter of their mean: 1 + 0.25·8/10 = 1.2 times the keys, in the draft model too."""

    def keys(kernel: Kernel) -> Reals:
        return kernel.shape[2] / kernel.count if kernel.kind == "attention" else 0.0

    def seconds(groups: list[Group], spread: float, drafting: int) -> Reals:
        engine = FREE.model_copy(update={"kv_spread": spread})
        priced = RoundCost(
            LLAMA, Imposed(keys), hardware=LAUNCHLESS, engine=engine, precision=BF16, program=TWO_MODEL, draft=SMALL
        )
        return priced.step(groups, drafting=drafting, draft_tokens=drafting and 1, drafting_kv_tokens=500.0).seconds

    decode, alone, prompt = Group(9, 1, 500.0), Group(1, 1, 500.0), Group(1, 64, 500.0)
    assert seconds([decode], 0.25, 0) == pytest.approx(1.2 * float(np.asarray(seconds([decode], 0.0, 0))))
    assert seconds([decode], 0.25, 9) == pytest.approx(1.2 * float(np.asarray(seconds([decode], 0.0, 9))))
    assert seconds([alone], 0.25, 0) == pytest.approx(float(np.asarray(seconds([alone], 0.0, 0))))
    assert seconds([prompt], 0.25, 0) == pytest.approx(float(np.asarray(seconds([prompt], 0.0, 0))))
