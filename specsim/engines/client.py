"""The load: requests sent at their own times, or by clients that wait for their answers, and when tokens came back.

One event loop, one connection a request in flight. Times are seconds of one monotonic clock since the run began.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from specsim.engines.adapter import Adapter
from specsim.engines.prompts import PromptIds
from specsim.errors import MissingExtra, NoAnswer
from specsim.workload.request import RequestSpec

if TYPE_CHECKING:
    import aiohttp


class BrokenLoad(Exception):
    """The server failed or went away under the load."""


DATA = b"data:"


@dataclass(slots=True)
class StreamedAnswer:
    """When an answer's tokens came: ``chunks`` of (seconds, output tokens so far), first to last.

    ``last``: the stream's last event.
    """

    request: RequestSpec
    sent_s: float
    chunks: list[tuple[float, int]] = field(default_factory=list)
    last: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.chunks[-1][1] if self.chunks else 0


def drive(
    url: str, adapter: Adapter, requests: Sequence[RequestSpec], prompts: PromptIds, *, concurrency: int | None = None
) -> list[StreamedAnswer]:
    """Send every request and wait for all answers.

    ``concurrency`` None sends each at its ``arrival_s``; else so many clients take turns through them in order, each
    sending its next one ``think_s`` after its last answer. Raises NoAnswer for a request that the server refuses,
    BrokenLoad where it fails one, gives another number of tokens than asked for or goes away, MissingExtra without
    aiohttp.
    """
    try:
        import aiohttp
    except ImportError:
        raise MissingExtra("aiohttp", "engines") from None
    try:
        return asyncio.run(_Load(url, adapter, prompts).run(requests, concurrency))
    except* (BrokenLoad, NoAnswer, aiohttp.ClientError, ConnectionError) as failed:
        refused = [error for error in failed.exceptions if isinstance(error, NoAnswer)]
        if len(refused) == len(failed.exceptions):
            raise refused[0] from None
        broken = next(error for error in failed.exceptions if error not in refused)
        raise BrokenLoad(str(broken)) from None


class _Load:
    def __init__(self, url: str, adapter: Adapter, prompts: PromptIds) -> None:
        self._url, self._adapter, self._prompts = url + adapter.route, adapter, prompts
        self._answers: list[StreamedAnswer] = []
        self._start_s = 0.0

    async def run(self, requests: Sequence[RequestSpec], concurrency: int | None) -> list[StreamedAnswer]:
        import aiohttp

        bodies = {r.request_id: self._adapter.body(self._prompts(r), r.output_tokens) for r in requests}
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._start_s = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                if concurrency is None:
                    for request in requests:
                        group.create_task(self._at_its_time(session, request, bodies[request.request_id]))
                else:
                    queue = iter(requests)
                    for _ in range(concurrency):
                        group.create_task(self._client(session, queue, bodies))
        return sorted(self._answers, key=lambda answer: answer.request.request_id)

    def _now_s(self) -> float:
        return time.perf_counter() - self._start_s

    async def _at_its_time(
        self, session: aiohttp.ClientSession, request: RequestSpec, body: Mapping[str, Any]
    ) -> None:
        assert request.arrival_s is not None  # of an open loop
        await asyncio.sleep(request.arrival_s - self._now_s())
        await self._ask(session, request, body)

    async def _client(
        self, session: aiohttp.ClientSession, queue: Any, bodies: Mapping[int, Mapping[str, Any]]
    ) -> None:
        answered = False
        for request in queue:  # shared by all clients: each takes the next one
            if answered and request.think_s:
                await asyncio.sleep(request.think_s)
            await self._ask(session, request, bodies[request.request_id])
            answered = True

    async def _ask(self, session: aiohttp.ClientSession, request: RequestSpec, body: Mapping[str, Any]) -> None:
        answer = StreamedAnswer(request, self._now_s())
        async with session.post(self._url, json=body) as response:
            if response.status != 200:
                said = " ".join((await response.text()).split())[:200]
                if response.status >= 500:
                    raise BrokenLoad(f"it failed request {request.request_id}: {said}")
                raise NoAnswer(
                    f"the engine refused request {request.request_id} ({request.prompt_tokens} in, "
                    f"{request.output_tokens} out) with status {response.status}: {said}"
                )
            async for event in _events(response.content):
                if "error" in event:
                    raise BrokenLoad(f"it failed request {request.request_id}: {str(event['error'])[:200]}")
                answer.last = event
                tokens = self._adapter.tokens(event, answer.tokens)
                if tokens > answer.tokens:
                    answer.chunks.append((self._now_s(), tokens))
        if answer.tokens != request.output_tokens:
            raise BrokenLoad(
                f"it gave request {request.request_id} {answer.tokens} tokens and was asked for "
                f"{request.output_tokens}"
            )
        self._answers.append(answer)


async def _events(lines: AsyncIterable[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    """The JSON objects of a stream of server-sent events."""
    async for line in lines:
        if line.startswith(DATA) and (text := line[len(DATA) :].strip()) != b"[DONE]":
            yield json.loads(text)
