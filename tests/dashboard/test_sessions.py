"""Many people at one server, over the websocket that a browser opens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

pytest.importorskip("streamlit", reason="the page needs the app extra")

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

SESSIONS, LONGEST_S = 20, 120
QUESTION = {"model": "qwen3-8b", "gpu": "h100-sxm", "drafter": "eagle3"}


def shown(address: str, question: dict[str, object]) -> str:
    """All words of the page that a link opens."""
    asked = BackMsg()
    asked.rerun_script.query_string = urlencode(question)
    words = []
    stream = address.replace("http", "ws", 1) + "/_stcore/stream"
    with connect(stream, subprotocols=["streamlit"], max_size=None) as socket:
        socket.send(asked.SerializeToString())
        while True:
            told = ForwardMsg.FromString(socket.recv(timeout=LONGEST_S))
            if told.HasField("script_finished"):
                return "\n".join(words)
            element = told.delta.new_element
            words += [element.html.body, element.markdown.body, element.alert.body, element.exception.message]


def test_twenty_sessions_at_once_each_get_their_own_answer(address: str) -> None:
    rates = range(1, SESSIONS + 1)
    with ThreadPoolExecutor(SESSIONS) as people:
        pages = list(people.map(lambda rate: shown(address, QUESTION | {"rate": rate}), rates))
    for rate, page in zip(rates, pages, strict=True):
        assert f"the mean at {rate} requests/s" in page
        assert page.count("the mean at ") == 1
