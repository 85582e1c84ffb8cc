"""How many drafts of a round are right, and how many are proposed: the acceptance laws' draws, compiled.

A draw is a function of (seed, request, output position). What a law fixes about a request before any round is known,
its track, is drawn by the law itself when the request comes, for all its positions at once. Laws are of three kinds:

levels   draft j is right where u(request, position) < level(position) · rate(j): rates by position, latent levels
         (the track), confidences (a track of level numbers). Without a track the level is 1
runs     so many drafts in a row are right at this position: copy drafters, recorded traces
tree     u says which candidate holds the target's token, and the tree of so many nodes is walked
"""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import NONE, bytes_at, call_at, floats_at, integers_at, jit, mixed_record, record_at
from specsim.scheduling.records import request_at
from specsim.speculation.compiled_uniform import key_of, uniform_of

LAW = mixed_record(
    """
    accepted proposed rates level_rates level_confidences limits depth candidates children
    most_nodes false_seed
    """,
    "match_factor min_match false_match_rate",
)
"""``accepted``, ``proposed``: what runs and trees put in place of the rules for levels, compiled apart.

levels: ``rates``, and of each level its own. runs: ``match_factor`` times the tokens matched is the most that a copy
drafter proposes (below 0: no such limit); ``false_seed`` keys the draws of its false matches. tree: ``limits`` [depth,
candidates] cumulate the recalls, ``children`` [nodes of the tree + 1, node + 1, candidate], -1 for none."""
law_at = record_at(LAW)


@jit
def accepted(address: int, drafts: int) -> int:
    """Right drafts of a request's round that drafted so many."""
    if drafts == 0:
        return 0
    one = request_at(address)
    law = law_at(one.law)
    return _before_wrong(law, one, drafts) if law.accepted == NONE else call_at(law.accepted, address, drafts)


@jit
def proposed(address: int, drafts: int) -> int:
    """Tokens that a request's drafter proposes next, of at most ``drafts``."""
    rule = law_at(request_at(address).law).proposed
    return drafts if rule == NONE else call_at(rule, address, drafts)


# -- levels -------------------------------------------------------------------------------------------------------


@jit
def _before_wrong(law: Any, one: Any, drafts: int) -> int:
    rates, first = floats_at(law.rates), one.emitted_tokens
    for j in range(drafts):
        if uniform_of(one.key, first + j) >= _level(law, one, first + j) * rates[j]:
            return j
    return drafts


@jit
def _level(law: Any, one: Any, position: int) -> float:
    if one.levels != NONE:
        return float(floats_at(law.level_rates)[bytes_at(one.levels)[position]])
    return 1.0 if one.track == NONE else float(floats_at(one.track)[position])


@jit
def put_confidences(one: Any, position: int, count: int, confidences: Any) -> None:
    """Of ``count`` drafts from an output position on."""
    law, levels = law_at(one.law), bytes_at(one.levels)
    for j in range(count):
        confidences[j] = floats_at(law.level_confidences)[levels[position + j]]


# -- runs ---------------------------------------------------------------------------------------------------------


def accepted_of_run(address: int, drafts: int) -> int:
    """As ``accepted``, where all that is drafted is proposed."""
    one = request_at(address)
    return int(min(drafts, floats_at(one.track)[one.emitted_tokens]))


def accepted_of_copy(address: int, drafts: int) -> int:
    """As ``accepted``, of a copy drafter."""
    one = request_at(address)
    return int(min(_copied(one)[0], _limit(law_at(one.law), one, drafts)))


def proposed_copy(address: int, drafts: int) -> int:
    """As ``proposed``, of a copy drafter: nothing where no match is found."""
    one = request_at(address)
    law, run = law_at(one.law), _copied(one)
    key = key_of(law.false_seed, one.request_id)
    if run[0] + run[1] > 0.0 or uniform_of(key, one.emitted_tokens) < law.false_match_rate:
        return _limit(law, one, drafts)
    return 0


@jit
def _copied(one: Any) -> Any:
    """Tokens of the run from the next output position on, and those of it before."""
    return floats_at(one.track + 8 * 2 * one.emitted_tokens)


@jit
def _limit(law: Any, one: Any, drafts: int) -> int:
    if law.match_factor < 0.0:
        return drafts
    return int(min(drafts, int(np.floor(law.match_factor * (law.min_match + _copied(one)[1])))))


# -- trees --------------------------------------------------------------------------------------------------------


def accepted_of_tree(address: int, drafts: int) -> int:
    """As ``accepted``: how deep the tree is walked."""
    one = request_at(address)
    law = law_at(one.law)
    width, node, depth = law.candidates, -1, 0
    tree = law.children + 8 * drafts * (law.most_nodes + 1) * (width + 1)
    limits = floats_at(law.limits)
    while depth < min(law.depth, drafts):
        u, rank = uniform_of(one.key, one.emitted_tokens + depth), 0
        while rank < width and limits[depth * width + rank] <= u:
            rank += 1
        node = integers_at(tree + 8 * (node + 1) * (width + 1))[rank]
        if node < 0:
            break
        depth += 1
    return int(depth)
