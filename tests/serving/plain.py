"""A plain, slow simulator of one replica: lists and loops, nothing kept that can be counted again.

It shares with the real one only the price of a step, the acceptance draws and the policy's own decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specsim.assembly import Assembly
from specsim.cost.forward import Group
from specsim.results import RequestRecord, StepRecord
from specsim.speculation.acceptance import AcceptanceDraws
from specsim.speculation.policy.protocol import Rounds
from specsim.workload.request import RequestSpec


@dataclass
class Job:
    spec: RequestSpec
    emitted: int = 0
    merged: int = 0  # emitted tokens that took no position of their own
    computed: int = 0
    drafts: int = 0
    prefilling: bool = False  # its last step left tokens to compute
    reserved: int = 0  # positions that its KV blocks were taken for
    preemptions: int = 0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def known(self) -> int:
        return self.spec.prompt_tokens + self.emitted - self.merged

    @property
    def ends(self) -> bool:
        return self.emitted >= self.spec.output_tokens


@dataclass
class Share:
    job: Job
    tokens: int
    drafts: int
    padding: int
    emits: bool
    prefill: bool
    right: int = 0


class Plain:
    """``run`` gives records of requests and steps, and how many were turned away."""

    def __init__(self, server: Assembly) -> None:
        self.server, self.limits = server, server.limits
        self.queue: list[Job] = []
        self.running: list[Job] = []
        self.decider = server.decider()
        self.requests: list[RequestRecord] = []
        self.steps: list[StepRecord] = []
        self.gaps: list[tuple[int, float]] = []
        self.rejected = 0

    def run(self, requests: list[RequestSpec]) -> Plain:
        coming, now = sorted(requests, key=lambda spec: spec.arrival_s or 0.0), 0.0
        while coming or self.queue or self.running:
            if not self.queue and not self.running:
                now = max(now, coming[0].arrival_s or 0.0)
            while coming and (coming[0].arrival_s or 0.0) <= now:
                spec = coming.pop(0)
                if self.server.max_queue is not None and len(self.queue) >= self.server.max_queue:
                    self.rejected += 1
                else:
                    self.queue.append(Job(spec))
            now = self.step(now)
        self.requests.sort(key=lambda record: record.request_id)
        return self

    # -- scheduling -----------------------------------------------------------------------------------------------

    def blocks(self, positions: int) -> int:
        return -(-min(positions, self.limits.max_model_len or 10**9) // self.limits.block_size)

    def free(self) -> int:
        held = sum(self.blocks(job.reserved) for job in self.running)
        return self.server.num_kv_blocks - 1 - held

    def schedule(self) -> list[Share]:
        limits, slots, look = self.limits, self.server.draft_slots, self.server.lookahead_tokens
        budget, shares, preempted = limits.max_num_batched_tokens, [], False
        cap = 10**9
        everyone = len(self.running) + len(self.queue)
        if limits.long_prefill_token_threshold and everyone > 1:
            cap = limits.long_prefill_token_threshold
            if limits.long_prefill_token_threshold_adaptive:
                cap = max(cap, limits.max_num_batched_tokens // everyone)
        for job in list(self.running):
            if job not in self.running or budget <= slots:
                break
            wanted = job.known - job.computed + (job.drafts if self.server.verifies_drafts else 0)
            tokens = min(wanted, cap, budget - slots)
            if limits.max_model_len is not None:
                tokens = min(tokens, limits.max_model_len - job.computed - 1)
            while self.blocks(job.computed + tokens + look) - self.blocks(job.reserved) > self.free():
                victim = self.running.pop()
                victim.computed = victim.drafts = victim.reserved = 0
                victim.preemptions += 1
                self.queue.insert(0, victim)
                preempted = True
                if victim is job:
                    break
            if job not in self.running:
                break
            job.reserved = max(job.reserved, job.computed + tokens + look)
            budget -= tokens + slots
            shares.append(self.share(job, tokens, 0))
        if preempted:
            return shares
        decodes_only = bool(shares) and not any(share.job.prefilling for share in shares)
        while self.queue and budget > slots and len(self.running) < limits.max_num_seqs:
            job = self.queue[0]
            padding = self.server.longest if self.server.pads_new_decodes and decodes_only and job.known == 1 else 0
            tokens = min(job.known, cap) + padding
            if tokens > budget - slots and (padding or not limits.chunked_prefill):
                break
            tokens = min(tokens, budget - slots)
            needed = self.blocks(tokens + look)
            if limits.scheduler_reserve_full_isl:
                needed = max(needed, self.blocks(job.known))
            if self.running:
                needed += int(limits.watermark * self.server.num_kv_blocks)
            if needed > self.free():
                break
            self.queue.pop(0)
            job.reserved = tokens + look
            self.running.append(job)
            budget -= tokens + slots
            shares.append(self.share(job, tokens, padding))
        return shares

    def share(self, job: Job, tokens: int, padding: int) -> Share:
        missing = job.known - job.computed
        emits = tokens >= missing
        drafts = max(0, tokens - missing - padding) if self.server.verifies_drafts else job.drafts * emits
        return Share(job, tokens, drafts, padding, emits, prefill=missing > 1 or job.emitted == 0)

    # -- a step ---------------------------------------------------------------------------------------------------

    def draws(self, job: Job) -> AcceptanceDraws:
        law = self.server.law(job.spec.request_class)
        assert law is not None
        return AcceptanceDraws(law, self.server.seed)

    def step(self, now: float) -> float:
        shares = self.schedule()
        used, waiting = self.server.num_kv_blocks - 1 - self.free(), len(self.queue)
        for share in shares:
            if share.drafts:
                job = share.job
                one = np.array([job.spec.request_id]), np.array([job.emitted]), np.array([share.drafts])
                share.right = int(self.draws(job).accepted(*one)[0])
        widths: dict[int, list[int]] = {}
        chunks, going = [], []
        for share in shares:
            kv = share.job.computed + share.tokens
            if share.prefill:
                chunks.append(Group(1, share.tokens, kv, int(share.emits)))
            else:
                widths.setdefault(share.tokens, []).append(kv)
            if share.emits and share.job.emitted + 1 + share.right < share.job.spec.output_tokens:
                kept = share.right - share.drafts if self.server.verifies_drafts else 0
                going.append((share, kv - share.padding + kept + 1))
        groups = [Group(len(kvs), width, sum(kvs) / len(kvs), width) for width, kvs in widths.items()]
        lengths, computed = self.propose(shares, going)
        mean_kv = sum(kv for _, kv in going) / len(going) if going else 0.0
        price = self.server.cost.step(
            groups + chunks, drafting=len(going), draft_tokens=computed, drafting_kv_tokens=mean_kv
        )
        end = now + float(price.seconds)
        out = end + price.lag_s
        self.steps.append(
            StepRecord(
                now,
                float(price.seconds),
                len(shares),
                sum(s.tokens for s in shares if s.prefill),
                sum(s.tokens for s in shares if not s.prefill),
                sum(s.drafts for s in shares),
                sum(s.right for s in shares),
                used,
                waiting,
                lag_s=price.lag_s,
            )
        )
        for share in shares:
            self.book(share, out)
        for (share, _), length in zip(going, lengths, strict=True):
            share.job.drafts = length
        return end

    def propose(self, shares: list[Share], going: list[tuple[Share, int]]) -> tuple[list[int], int]:
        decider = self.decider
        if decider is None:
            return [0] * len(going), 0
        seen = [share for share in shares if share.drafts]
        columns = [np.array(values, dtype=np.int64) for values in zip(
            *((s.job.spec.request_id, s.drafts, s.right) for s in seen), strict=True
        )] or [np.zeros(0, dtype=np.int64)] * 3  # fmt: skip
        decider.observe(Rounds(*columns, batch=len(shares)))
        kvs = [kv for _, kv in going] or [share.job.computed + share.tokens for share in shares]
        k = min(decider.draft_tokens(len(shares), sum(kvs) / len(kvs)), self.server.longest)
        if not k or not going:
            return [0] * len(going), k
        ids = np.array([share.job.spec.request_id for share, _ in going])
        at = [share.job.emitted + 1 + share.right for share, _ in going]
        lengths, computed = [k] * len(going), k
        if not decider.uniform:
            confidences = None
            if decider.needs_confidences:
                confidences = np.concatenate([
                    self.draws(share.job).confidences(ids[i : i + 1], np.array(at[i : i + 1]), k)
                    for i, (share, _) in enumerate(going)
                ])  # fmt: skip
            drafts = decider.lengths(ids, k, confidences)
            lengths, computed = drafts.lengths.tolist(), drafts.computed
        proposed = [
            int(
                self.draws(share.job).proposed(ids[i : i + 1], np.array(at[i : i + 1]), np.array(lengths[i : i + 1]))[
                    0
                ]
            )
            for i, (share, _) in enumerate(going)
        ]
        return proposed, computed

    def book(self, share: Share, now: float) -> None:
        job = share.job
        job.drafts, job.prefilling = 0, not share.emits
        extra = share.padding + (share.drafts if self.server.verifies_drafts else 0)
        job.computed += share.tokens - extra + (share.right if self.server.verifies_drafts else 0)
        if not share.emits:
            return
        count = min(1 + share.right, job.spec.output_tokens - job.emitted)
        if job.emitted:
            self.gaps.append((job.spec.request_id, now - job.last_s))
        else:
            job.first_s = now
        job.emitted += count
        job.last_s = now
        if not self.server.verifies_drafts:
            job.merged += count - 1
        if not share.prefill:
            job.rounds += 1
            job.drafted += share.drafts
            job.accepted += share.right
        if job.ends:
            self.running.remove(job)
            spec = job.spec
            self.requests.append(
                RequestRecord(
                    spec.request_id,
                    spec.request_class,
                    spec.arrival_s or 0.0,
                    job.first_s,
                    now,
                    spec.prompt_tokens,
                    spec.output_tokens,
                    job.rounds,
                    job.drafted,
                    job.accepted,
                    job.preemptions,
                )
            )
