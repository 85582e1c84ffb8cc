"""Acceptance laws as the records and tracks that ``accept`` reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specsim.arrays import Floats, Integers, Records
from specsim.jit import compiled, point
from specsim.scheduling.accept import LAW, accepted_of_copy, accepted_of_run, accepted_of_tree, proposed_copy
from specsim.speculation.acceptance import (
    AcceptanceLaw,
    ConfidenceAcceptance,
    HurdleAcceptance,
    LatentAcceptance,
    RecallAcceptance,
    TraceAcceptance,
)
from specsim.speculation.acceptance.runs import FALSE_MATCH_STREAM
from specsim.speculation.uniform import stream_seed


class LawRecords:
    """One LAW record for each of ``laws``, and the arrays that they point to, kept alive."""

    def __init__(self, laws: Sequence[AcceptanceLaw], longest: int, seed: int) -> None:
        """``longest``: the most drafts of a round, for which every law has an answer."""
        self.records = np.zeros(len(laws), LAW)
        self._arrays: list[Records] = []
        for index, law in enumerate(laws):
            record = self.records[index : index + 1]
            if isinstance(law, RecallAcceptance):
                self._put_tree(record, law, longest)
            elif isinstance(law, HurdleAcceptance):
                _put_copies(record, law, seed)
            elif isinstance(law, TraceAcceptance):
                record["accepted"] = compiled(accepted_of_run).address
            else:
                self._arrays += point(record, {"rates": _rates(law, longest)})
            if isinstance(law, ConfidenceAcceptance):
                rates, confidences = law.tables()
                self._arrays += point(record, {"level_rates": rates, "level_confidences": confidences})

    def _put_tree(self, record: Records, law: RecallAcceptance, longest: int) -> None:
        width = law.table.width
        children = np.full((longest + 1, longest + 1, width + 1), -1, dtype=np.int64)
        for nodes in range(1, longest + 1):
            found = law.shape(nodes).children(width)  # fewer nodes where the table has no more that are ever right
            children[nodes, : len(found), :width] = found
        record["accepted"] = compiled(accepted_of_tree).address
        record["depth"], record["candidates"], record["most_nodes"] = law.table.depth, width, longest
        self._arrays += point(record, {"limits": np.cumsum(law.table.padded(), axis=1), "children": children})


def _put_copies(record: Records, law: HurdleAcceptance, seed: int) -> None:
    record["accepted"], record["proposed"] = compiled(accepted_of_copy).address, compiled(proposed_copy).address
    record["min_match"] = law.min_match
    record["match_factor"] = -1.0 if law.match_factor is None else law.match_factor
    record["false_match_rate"], record["false_seed"] = law.false_match_rate, stream_seed(seed, FALSE_MATCH_STREAM)


def _rates(law: AcceptanceLaw, longest: int) -> Floats:
    """By draft position; what multiplies them stands in the track."""
    if isinstance(law, LatentAcceptance):
        return np.asarray(law.decay ** np.arange(longest), dtype=np.float64)
    if isinstance(law, ConfidenceAcceptance):
        return np.ones(longest)
    return law.conditional_rates(longest)


def tracks(law: AcceptanceLaw, seed: int, request_ids: Integers, tokens: int) -> dict[str, Records]:
    """What ``accept`` reads of requests' first ``tokens`` output positions, by field of REQUEST, a row each: a track
    [requests, tokens, fields] or levels [requests, tokens]; nothing where a law has none.
    """
    if isinstance(law, ConfidenceAcceptance):
        return {"levels": law.level_of(seed, request_ids, tokens)}
    return {"track": np.ascontiguousarray(law.track(seed, request_ids, tokens))} if law.track_fields else {}
