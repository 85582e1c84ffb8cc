"""A run's replicas, its requests on their way, and what happened, as records: both drives work on one Fleet.

Requests are read in parts and the log is emptied as it fills, so memory depends on what is in the system, not on how
long the run is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from specsim.arrays import Records
from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES, Group, Source
from specsim.errors import InvalidInput
from specsim.jit import address_of, array_at, compiled, point
from specsim.results import KvTransfers
from specsim.results.metrics import Waiting
from specsim.scheduling.engine import NO_LIMIT
from specsim.scheduling.laws import LawRecords
from specsim.scheduling.records import BOTH, DECODE, PREFILL, REPLICA, REQUEST
from specsim.scheduling.replica import ReplicaArrays
from specsim.serving.intake import Intake
from specsim.serving.log import Log
from specsim.serving.loop import DONE, LOG_IS_FULL, RECORDS_WANTED, STEP_ASKS, serve
from specsim.serving.records import EVENT, FLEET
from specsim.serving.router import ROUTERS, RouterName, router_seed
from specsim.serving.sinks import Sink
from specsim.serving.transfers import ask_for_kv, end_move, hand_over, split
from specsim.serving.transitions import decide_step, end_step, launch_step, send_request, start_step, take_request
from specsim.specs.deployment import Disaggregation
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.learning import Learning
from specsim.step_prices.price import PriceRecord
from specsim.step_prices.records import GROUP, WORK
from specsim.step_prices.table_prices import TablePrices
from specsim.workload.request import Requests

LOG_ROWS, LOG_GAPS = 8192, 65_536
TRANSITIONS = (take_request, send_request, start_step, launch_step, end_step)
TRANSFERS = (split, ask_for_kv, hand_over, end_move)


class ReplicaKind:
    """What replicas of one assembly and role have in common."""

    def __init__(self, assembly: Assembly, classes: Sequence[str], role: int = BOTH) -> None:
        self.assembly = assembly
        self.engine = assembly.engine(role)
        laws = [law for name in classes if (law := assembly.law(name)) is not None]
        self.laws = LawRecords(laws, _most_drafts(assembly), assembly.seed) if laws else None
        self.prices = PriceRecord(assembly.cost.prices) if isinstance(assembly.cost, TablePrices) else None
        decider = assembly.decider()
        table = [0] if decider is None else decider.table()
        self.draft_lengths = None if table is None else np.array(table, np.int64)

    def fill(self, record: Records) -> None:
        """What a replica's record points to."""
        limit, lengths = self.assembly.max_queue, self.draft_lengths
        point(
            record,
            {
                "laws": None if self.laws is None else self.laws.records,
                "prices": None if self.prices is None else self.prices.record,
                "draft_lengths": lengths,
                "last_draft_length": 0 if lengths is None else len(lengths) - 1,
                "max_queue": NO_LIMIT if limit is None else limit,
                "response_s": self.assembly.limits.frontend_response_s,
            },
        )


class Fleet:
    """``replicas[r]`` is what replica r is made of; ``clients``: how many, in a closed loop.

    With ``disaggregation`` the first replicas are its prefill pool and the others its decode pool.
    """

    def __init__(
        self,
        replicas: Sequence[Assembly],
        classes: Sequence[str],
        *,
        router: RouterName,
        clients: int | None = None,
        disaggregation: Disaggregation | None = None,
    ) -> None:
        """Raises InvalidInput where replicas would accept drafts by different laws."""
        self.disaggregation = disaggregation
        self.roles = roles_of(len(replicas), disaggregation)
        each = list(zip(replicas, self.roles, strict=True))
        kinds = {(one, role): ReplicaKind(one, classes, role) for one, role in dict.fromkeys(each)}
        self.kinds = list(kinds.values())
        self.classes, self.seed, self.closed = tuple(classes), replicas[0].seed, clients is not None
        self.laws = [self._law(name) for name in self.classes]
        self.longest = max(kind.assembly.longest for kind in self.kinds)
        seqs = max(kind.assembly.limits.max_num_seqs for kind in self.kinds)
        self.log_rows, self.log_gaps = max(LOG_ROWS, 2 * seqs), max(LOG_GAPS, 2 * seqs)
        self.log = Log(self.log_rows, self.log_gaps, self.longest)
        self.work, self._groups, self._chunks = np.zeros(1, WORK), np.zeros(seqs, GROUP), np.zeros(seqs, GROUP)
        self._confidences = np.zeros((seqs, self.longest))
        point(self.work, {"groups": self._groups, "chunks": self._chunks, "confidences": self._confidences})
        self.replicas = np.zeros(len(replicas), REPLICA)
        self.arrays = [self._replica(number, kinds[one]) for number, one in enumerate(each)]
        self.assemblies = list(replicas)
        self.deciders = [self._decider(number, kinds[one]) for number, one in enumerate(each)]
        self.record = self._record(router, clients, seqs)
        self.at = address_of(self.record)
        engines = [kind.engine for kind in self.kinds]
        self.intake = Intake(self.record, engines, self.laws, longest=self.longest, seed=self.seed)
        self.queued: list[tuple[float, int]] = []  # (time, requests waiting) at the end of each part

    def _law(self, name: str) -> AcceptanceLaw | None:
        found = [law for kind in self.kinds if (law := kind.assembly.law(name)) is not None]
        if any(law != found[0] for law in found):
            raise InvalidInput(f"replicas accept drafts of class {name!r} by different laws; give all the same")
        return found[0] if found else None

    def _replica(self, number: int, kind: ReplicaKind) -> ReplicaArrays:
        record = self.replicas[number : number + 1]
        arrays = ReplicaArrays(kind.engine, record)
        kind.fill(record)
        point(record, {"number": number, "work": self.work, "log": self.log.record})
        return arrays

    def _decider(self, number: int, kind: ReplicaKind) -> Learning | None:
        """Of a replica whose policy looks at more than the batch size."""
        if kind.draft_lengths is not None:
            return None
        decider = kind.assembly.decider()
        assert isinstance(decider, Learning)
        self.replicas["decider"][number] = address_of(decider.record)
        return decider

    def _record(self, router: RouterName, clients: int | None, seqs: int) -> Records:
        record, sources = np.zeros(1, FLEET), 1 if clients is None else clients
        waiting = sources + len(self.replicas) * (1 if self.disaggregation is None else 2)
        slots = 1 << max(1, (waiting - 1).bit_length())
        self._events, self._winners = np.zeros(slots, EVENT), np.zeros(slots, np.int64)
        self._events["time_s"] = np.inf
        for node in range(slots - 1, 0, -1):  # any slot below a node will do while nothing is planned
            self._winners[node] = 2 * node - slots if 2 * node >= slots else self._winners[2 * node]
        self.idle, self._unfinished = np.arange(sources), np.zeros(len(self.replicas), np.int64)
        self.num_sources, self.idle_since, self.ahead = sources, np.zeros(sources), np.zeros(seqs + 3, EVENT)
        fields: dict[str, Any] = {
            "replicas": self.replicas, "num_replicas": len(self.replicas), "unfinished": self._unfinished,
            "router": ROUTERS.index(router), "router_seed": router_seed(self.seed), "pool_end": len(self.replicas),
            "seed": (self.seed + 2**63) % 2**64 - 2**63,
            "events": self._events, "winners": self._winners, "num_slots": slots, "ahead": self.ahead,
            "num_sources": sources, "closed": self.closed, "idle_sources": self.idle, "num_idle": sources,
            "idle_since": self.idle_since, "asking": -1, "log": self.log.record, "most_finished": self.log_rows,
            "most_steps": self.log_rows, "most_gaps": self.log_gaps, "most_in_step": seqs,
            "request_s": self.kinds[0].assembly.limits.frontend_request_s,
        }  # fmt: skip
        if self.disaggregation is not None:
            link, made_of = self.disaggregation.kv_link, self.kinds[0].assembly
            block_s = made_of.kv_block_bytes / link.rate_on(made_of.scenario.gpu)
            prefill, decode_first = self.disaggregation.prefill_replicas, made_of.limits.rules == "sglang"
            fields |= {
                "num_prefill": prefill,
                "decode_first": decode_first,
                "pool_begin": prefill if decode_first else 0,
                "pool_end": len(self.replicas) if decode_first else prefill,
                "move_block_s": block_s,
                "move_latency_s": link.latency_s,
            }
        functions = TRANSITIONS if self.disaggregation is None else (*TRANSITIONS, *TRANSFERS)
        point(record, fields | {function.__name__: compiled(function).address for function in functions})
        return record

    # -- the run --------------------------------------------------------------------------------------------------

    def answer(self, number: int) -> None:
        """Work out the prices that a replica's step waits for."""
        decider = self.deciders[number]
        while decider is not None and not compiled(decide_step)(self.at, number):
            decider.learn_price()
        if not self.replicas["prices"][number]:
            _price_step(self.assemblies[number], self.arrays[number], self.work)

    def serve(self, whole: Iterable[Requests], sink: Sink) -> None:
        """Serve all requests, in order. Raises NoAnswer for one that could never run."""
        parts, go_on = iter(self.intake.parts(whole)), compiled(serve)
        status = -1
        while status != DONE:
            status = go_on(self.at, 0)
            if status == STEP_ASKS:
                self.answer(int(self.record["asking"][0]))
            elif status == RECORDS_WANTED:
                self.intake.more_records()
            elif status == LOG_IS_FULL:
                self.log.empty(sink)
            elif status != DONE:
                self.log.empty(sink)
                self.end_part()
                self.intake.bring(next(parts, None))
        self.log.empty(sink)

    @property
    def first_pool(self) -> slice:
        """The replicas that requests come to when they arrive."""
        return slice(int(self.record["pool_begin"][0]), int(self.record["pool_end"][0]))

    def kv_transfers(self) -> KvTransfers | None:
        """What moved between the pools so far."""
        if self.disaggregation is None:
            return None
        moved = int(self.record["moved_blocks"][0]) * self.kinds[0].assembly.kv_block_bytes
        return KvTransfers(int(self.record["num_moves"][0]), moved)

    def left_waiting(self) -> Waiting:
        """As ``results.metrics.left_waiting``, half-way at the end of a part."""
        first_s = self.intake.first_arrival_s
        if first_s is None:
            return 0.0, 0.0
        last_s, at_end = self.queued[-1]
        half_way = [waiting for time_s, waiting in self.queued if time_s <= (first_s + last_s) / 2]
        return float(half_way[-1] if half_way else 0), float(at_end)

    def end_part(self) -> None:
        """All requests of the part at hand are on their way."""
        if self.intake.part is not None and len(self.intake.part):
            self.queued.append((float(self.record["now_s"][0]), int(self.replicas["num_waiting"].sum())))


def _price_step(assembly: Assembly, replica: ReplicaArrays, work: Records) -> None:
    """Put the price of a replica's step by the source itself into its WORK record."""
    decodes = array_at(int(work["groups"][0]), int(work["num_widths"][0]), GROUP)
    groups = [Group(int(n), int(width), kv, int(width)) for n, width, kv, _ in decodes.tolist()]
    shares = replica.shares[: replica.record["num_shares"][0]]
    chunks = shares[shares["prefill"] == 1]
    groups += [Group(1, *chunk) for chunk in chunks[["tokens", "kv_tokens", "emits"]].tolist()]
    price = assembly.cost.step(
        groups,
        drafting=int(work["num_drafting"][0]),
        draft_tokens=int(work["draft_tokens"][0]),
        drafting_kv_tokens=float(work["drafting_kv_tokens"][0]),
    )
    work["seconds"], work["rank"] = float(cast(Any, price.seconds)), SOURCES.index(cast(Source, price.source))
    work["lag_s"] = price.lag_s


def _most_drafts(assembly: Assembly) -> int:
    """Of a round: what the program allows, and what the policy ever asks for."""
    asked = None if assembly.speculation is None else assembly.speculation.policy.longest
    return assembly.longest if asked is None else min(asked, assembly.longest)


def roles_of(replicas: int, disaggregation: Disaggregation | None) -> list[int]:
    """The role of each replica."""
    if disaggregation is None:
        return [BOTH] * replicas
    prefill = disaggregation.prefill_replicas
    return [PREFILL] * prefill + [DECODE] * (replicas - prefill)


def request_view(address: int) -> Records:
    """A request's record, [1], for Python."""
    return array_at(address, 1, REQUEST)
