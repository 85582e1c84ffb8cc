"""``specsim dashboard``: open the what-if page in a browser."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from socket import AI_PASSIVE, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, gethostname, socket
from typing import Annotated

import typer

from specsim.errors import InvalidInput, MissingExtra, shown
from specsim.shipped import shipped

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
LARGEST_UPLOAD_MB = 16  # the page reads no larger file


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets all who reach this machine open it.")
    ] = LOOPBACK,
) -> None:
    """Serve the page until Ctrl-C, to this machine alone unless --host says otherwise."""
    if find_spec("streamlit") is None:
        raise MissingExtra("streamlit", "app")
    _refuse_unusable(host, port)
    page = shipped("streamlit_app.py")
    name = gethostname() if host == EVERYWHERE else host
    # The watcher floods inotify when an environment lies beside the page, and slows the first load fourfold.
    options = [
        f"--server.port={port}",
        f"--server.address={host}",
        f"--browser.serverAddress={name}",
        "--server.headless=true",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
        "--client.toolbarMode=viewer",
        "--theme.light.primaryColor=#1d4ed8",
        "--theme.dark.primaryColor=#3b82f6",
        f"--server.maxUploadSize={LARGEST_UPLOAD_MB}",
    ]
    print(f"specsim dashboard: http://{name}:{port}", file=sys.stderr)
    raise typer.Exit(subprocess.call([sys.executable, "-m", "streamlit", "run", str(page), *options]))


def _refuse_unusable(host: str, port: int) -> None:
    """Raises InvalidInput where nothing can listen."""
    reason = "it is empty"
    if host:
        try:
            family, kind, protocol, _, address = getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_PASSIVE)[0]
            with socket(family, kind, protocol) as probe:
                probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
                probe.bind(address)
            return
        except (OSError, UnicodeError) as error:
            reason = str(getattr(error, "strerror", None) or error)
    raise InvalidInput(
        f"nothing can listen at --host {shown(host)} --port {port}: {reason}; give an address of this machine "
        f"({LOOPBACK}, or {EVERYWHERE} for all) and a free port"
    )
