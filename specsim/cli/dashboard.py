"""``specsim dashboard``: open the what-if page in a browser."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import Annotated

import typer

from specsim.errors import MissingExtra

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
LARGEST_UPLOAD_MB = 16  # the page reads no larger file


def dashboard(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets all who reach this machine open it.")
    ] = LOOPBACK,
) -> None:
    """Serve the page until Ctrl-C, to this machine alone unless --host says otherwise."""
    if find_spec("streamlit") is None:
        raise MissingExtra("streamlit", "app")
    package = Path(__file__).parents[1]
    bundled = package / "bundled" / "streamlit_app.py"
    page = bundled if bundled.exists() else package.parent / "streamlit_app.py"
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
        "--theme.dark.primaryColor=#60a5fa",
        f"--server.maxUploadSize={LARGEST_UPLOAD_MB}",
    ]
    print(f"specsim dashboard: http://{name}:{port}", file=sys.stderr)
    raise typer.Exit(subprocess.call([sys.executable, "-m", "streamlit", "run", str(page), *options]))
