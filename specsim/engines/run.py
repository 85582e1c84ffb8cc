"""Scenarios served by a real engine, and what was counted.

Servers stay up between runs, one for each engine configuration, so that the arms of a comparison take turns within
minutes of each other: on a shared machine their ratios repeat where their absolute times do not. Before every run the
prefix cache is emptied and a few requests warm the server up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from specsim.engines.adapter import Adapter, Checkpoints
from specsim.engines.client import StreamedAnswer, drive
from specsim.engines.prompts import PromptIds, prompts_of
from specsim.engines.server import READY_S, Server, free_port
from specsim.errors import InvalidInput
from specsim.kept_files import replace_text
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, pooled
from specsim.scenario import Scenario
from specsim.version import __version__
from specsim.workload.request import RequestSpec

WARM_UP_REQUESTS, WARM_UP_TOKENS = 4, 24


class Arms:
    """One engine's servers. ``folder`` keeps their logs and the counters around every run.

    ``port`` None takes free ones; else the first server's, the next ones above it. Leaving the block stops them all.
    """

    def __init__(
        self,
        adapter: Adapter,
        python: Path,
        folder: Path,
        *,
        port: int | None = None,
        ready_s: float = READY_S,
        starting: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._adapter, self._python, self._folder = adapter, python, folder
        self._port, self._ready_s, self._starting = port, ready_s, starting
        self._servers: dict[tuple[str, ...], Server] = {}
        self._runs = 0

    def start(self, scenario: Scenario, checkpoints: Checkpoints) -> None:
        """Have the scenario's server up. Raises InvalidInput and NoAnswer as ``serve``."""
        self._server(scenario, checkpoints)

    def serve(self, scenario: Scenario, checkpoints: Checkpoints, *, keep_alive: bool = True) -> RunResult:
        """Serve the scenario's requests on the wall clock; a step's tokens appear when the client has them.

        Raises InvalidInput and NoAnswer for what the engine does not have, a server that does not start or that dies.
        """
        requests = requests_to_send(scenario)
        server = self._server(scenario, checkpoints)
        prompts = prompts_of(scenario, requests)
        clients = scenario.workload.clients
        self._warm_up(server, scenario, requests, prompts)
        server.reset(self._adapter.reset)
        before, after = (self._folder / f"run-{self._runs:03d}-{when}.prom" for when in ("before", "after"))
        self._runs += 1
        replace_text(before, server.metrics())
        answers = server.drive_with(
            lambda: drive(
                server.url,
                self._adapter,
                requests,
                prompts,
                concurrency=None if clients is None else clients.concurrency,
            )
        )
        counted = server.metrics()
        replace_text(after, counted)
        told = (self._adapter.answered(answer.last) for answer in answers)
        counts = pooled([self._adapter.acceptance(before, after), *told])
        result = run_result(scenario, self._adapter.kind, answers, counts)
        return replace(result, num_kv_blocks=self._adapter.num_kv_blocks(counted))

    def _server(self, scenario: Scenario, checkpoints: Checkpoints) -> Server:
        """The running server of this engine configuration, or a new one."""
        configuration = self._adapter.launch(scenario, checkpoints, port=0).arguments
        if configuration not in self._servers:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = len(self._servers)
            port = free_port() if self._port is None else self._port + number
            launch = self._adapter.launch(scenario, checkpoints, port)
            log = self._folder / f"server-{number}.log"
            self._starting(f"starting {self._adapter.kind} on port {port}, log in {log}")
            self._servers[configuration] = Server(
                self._python, launch, log, port=port, health=self._adapter.health, ready_s=self._ready_s
            )
        return self._servers[configuration]

    def _warm_up(
        self, server: Server, scenario: Scenario, requests: Sequence[RequestSpec], prompts: PromptIds
    ) -> None:
        few = warm_up_requests(requests)
        server.drive_with(lambda: drive(server.url, self._adapter, few, prompts, concurrency=len(few)))

    def __enter__(self) -> Arms:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            server.stop()


def requests_to_send(scenario: Scenario) -> list[RequestSpec]:
    """The workload's requests. Raises InvalidInput for what a client of a server cannot say."""
    requests = scenario.requests()
    if any(request.priority for request in requests):
        raise InvalidInput("workload.classes have priorities and a real run sends none; remove them")
    if any(request.prefix_hashes for request in requests):
        raise InvalidInput(
            "the trace shares prefixes by hash and a real run sends random prompts; give weights.prompts"
        )
    return requests


def warm_up_requests(requests: Sequence[RequestSpec]) -> list[RequestSpec]:
    """A few of them, cut short, which come at once."""
    return [
        replace(request, output_tokens=min(WARM_UP_TOKENS, request.output_tokens), think_s=0.0)
        for request in requests[:WARM_UP_REQUESTS]
    ]


def run_result(
    scenario: Scenario, kind: str, answers: Sequence[StreamedAnswer], acceptance: AcceptanceCounts
) -> RunResult:
    """What came back of a scenario's requests, as a simulation tells it."""
    records, gaps, owners = list[RequestRecord](), list[float](), list[int]()
    for answer in answers:
        request, times = answer.request, [second for second, _ in answer.chunks]
        records.append(
            RequestRecord(
                request.request_id,
                request.request_class,
                answer.sent_s,
                times[0],
                times[-1],
                request.prompt_tokens,
                request.output_tokens,
            )
        )
        gaps += np.diff(times).tolist()
        owners += [request.request_id] * (len(times) - 1)
    imposed = scenario.weights is None
    return RunResult(
        engine=kind,  # type: ignore[arg-type]
        scenario_sha256=scenario.sha256(),
        duration_s=max(record.finish_s for record in records),
        requests=records,
        steps=[],
        itl_s=np.array(gaps, dtype=np.float64),
        itl_request=np.array(owners, dtype=np.int64),
        acceptance=acceptance,
        price_source="wall clock",
        versions={"specsim": __version__}
        | ({"acceptance": "imposed" if imposed else "real"} if scenario.speculation else {}),
        num_gpus=scenario.deployment.tensor_parallel,
    )
