"""How many tokens each drafter would have had accepted at each position of the target's greedy output.

A K-free run: a round that starts at output position p knows tokens 0..p-1 and the target's states of tokens 0..p-2;
the run is how many of its guesses in a row are the target's own tokens, up to a cap. Greedy output does not depend on
who drafts, so that one pass over the finished text gives every run. Shapes: tokens [prompts, length].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from checkpoint import Trained
from network import Attention, Eagle, rotation, turn
from torch import Tensor


def next_token_runs(guesses: Tensor, tokens: Tensor, start: int, cap: int) -> Tensor:
    """Runs [prompts, length - start - cap + 1] of a drafter that guesses one token ahead.

    ``guesses`` [prompts, length]: at i, what follows token i. While a run lasts the drafter has seen the target's own
    tokens, so its guesses after the true text are those it would have made.
    """
    right = guesses[:, start - 1 : -1] == tokens[:, start:]
    return longest([right[:, ahead : ahead + right.shape[1] - cap + 1] for ahead in range(cap)])


def head_runs(guesses: list[Tensor], tokens: Tensor, start: int, cap: int) -> Tensor:
    """Runs of parallel heads: ``guesses[j]`` [prompts, length] at i is the token j + 2 after token i.

    The round at p reads the state of token p - 2, from which the target itself has given token p - 1.
    """
    positions = tokens.shape[1] - start - cap + 1
    right = [
        guess[:, start - 2 : start - 2 + positions] == tokens[:, start + ahead : start + ahead + positions]
        for ahead, guess in enumerate(guesses[:cap])
    ]
    return longest(right)


def longest(right: list[Tensor]) -> Tensor:
    """How many leading elements of a list of boolean tensors are true, element by element."""
    alive = torch.ones_like(right[0])
    total = torch.zeros_like(right[0], dtype=torch.int64)
    for guess in right:
        alive = alive & guess
        total += alive
    return total


@torch.inference_mode()
def all_runs(trained: Trained, tokens: Tensor, start: int, cap: int) -> dict[str, Tensor]:
    """Runs of every drafter by name, each [prompts, length - start - cap + 1]."""
    early, states = trained.target.states(tokens, trained.exit_layer)
    draft = trained.draft(tokens).argmax(-1)
    exits = trained.target.head(trained.exit(early)).argmax(-1)
    heads = [logits.argmax(-1) for logits in trained.medusa(states)]
    embedded = trained.target.model.embed_tokens(tokens)
    eagle = [eagle_runs(trained, embedded[row], states[row], tokens[row], start, cap) for row in range(len(tokens))]
    return {
        "draft": next_token_runs(draft, tokens, start, cap),
        "medusa": head_runs(heads, tokens, start, cap),
        "exit": next_token_runs(exits, tokens, start, cap),
        "eagle": torch.stack(eagle),
    }


def eagle_runs(trained: Trained, embedded: Tensor, states: Tensor, tokens: Tensor, start: int, cap: int) -> Tensor:
    """Runs of the feature head on one text [length]: every start drafts at once, each on its own predicted states."""
    positions = len(tokens) - start - cap + 1
    guesses = eagle_guesses(trained.eagle, embedded, states, start, positions, cap)
    right = [
        trained.target.head(state).argmax(-1) == tokens[start + ahead : start + ahead + positions]
        for ahead, state in enumerate(guesses)
    ]
    return longest(right)


def eagle_guesses(
    eagle: Eagle, embedded: Tensor, states: Tensor, start: int, positions: int, cap: int
) -> Iterator[Tensor]:
    """Predicted states [positions, hidden] one, two, ... ``cap`` tokens deep, for the rounds at ``start`` and on.

    ``embedded`` and ``states`` [length, hidden]. Input i of the head is (embedding of token i + 1, state i) and stands
    at position i. The round at p reads true inputs up to p - 2, then inputs with its own predictions for states.
    """
    layer = eagle.layers[0]
    first = torch.arange(positions) + start - 2
    known = eagle.fc(torch.cat((embedded[1:], states[:-1]), dim=-1))
    true_keys, true_values = _keys_values(layer.self_attn, known, torch.arange(len(known)))
    unseen = torch.arange(len(known)) > first[:, None]
    inputs, own = known[first], []
    for depth in range(cap):
        if depth:
            inputs = eagle.fc(torch.cat((embedded[first + depth + 1], state), dim=-1))  # noqa: F821
            own.append(_keys_values(layer.self_attn, inputs, first + depth))
        queries = _heads(layer.self_attn.q_proj(inputs), layer.self_attn, first + depth)
        x = inputs + layer.self_attn.o_proj(_mix(queries, (true_keys, true_values), unseen, own))
        state = x + layer.mlp(layer.post_attention_layernorm(x))
        yield state


def _heads(x: Tensor, attention: Attention, positions: Tensor, *, turned: bool = True) -> Tensor:
    """x [n, heads·head_dim] as [heads, n, head_dim], rotated to its positions."""
    split = x.view(len(x), -1, attention.head_dim).transpose(0, 1)
    if not turned:
        return split
    cos, sin = rotation(int(positions.max()) + 1, attention.head_dim)
    return turn(split, cos[positions], sin[positions])


def _keys_values(attention: Attention, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    keys = _heads(attention.k_proj(inputs), attention, positions)
    return keys, _heads(attention.v_proj(inputs), attention, positions, turned=False)


def _mix(queries: Tensor, true: tuple[Tensor, Tensor], unseen: Tensor, own: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Attention of queries [heads, n, e] on shared true keys and on each row's own; gives [n, heads·e]."""
    fold = len(queries) // len(true[0])
    keys, values = (x.repeat_interleave(fold, 0) for x in true)
    scores = [(queries @ keys.transpose(1, 2)).masked_fill(unseen, -torch.inf)]
    scores += [(queries * k.repeat_interleave(fold, 0)).sum(-1, keepdim=True) for k, _ in own]
    weights = (torch.cat(scores, dim=-1) * queries.shape[-1] ** -0.5).softmax(-1)
    mixed = weights[..., : keys.shape[1]] @ values
    for index, (_, v) in enumerate(own):
        mixed = mixed + weights[..., keys.shape[1] + index, None] * v.repeat_interleave(fold, 0)
    return mixed.transpose(0, 1).flatten(1)


def acceptance_length(runs: Tensor, draft_tokens: int) -> float:
    """Tokens per round when rounds of ``draft_tokens`` drafts walk each row of ``runs`` from its start to its end.

    Runs 0 0 0 0 with any k: 1. Runs 4 3 2 1 0 with k = 4: one round of five tokens, 5.
    """
    rounds = produced = 0
    for row in runs.tolist():
        place = 0
        while place < len(row):
            step = min(row[place], draft_tokens) + 1
            place, produced, rounds = place + step, produced + step, rounds + 1
    return produced / rounds
