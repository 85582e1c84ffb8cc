"""An engine's own Python, and what its CPU edition wants to find in the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from specsim.errors import InvalidInput

CPU_KV_CACHE_GIB = 4
THREADS = "VLLM_CPU_OMP_THREADS_BIND"


def engine_python(installation: Path, option: str = "--vllm") -> Path:
    """The Python of a virtual environment, or the given one. Raises InvalidInput, naming ``option``, without one."""
    python = installation / "bin" / "python" if installation.is_dir() else installation
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise InvalidInput(
            f"{option} {installation}: no Python there; give the engine's virtual environment or its Python"
        )
    return python


def engine_environment(python: Path, further: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, its own values before ``further``; an engine imports its own packages.

    Where a CPU's cores are listed, threads are what vLLM makes them in its workers: one a core, whatever this process
    was given, and by the installation's Intel OpenMP, which vLLM's CPU edition asks to load first ("speculative
    decoding without it will cause significant performance loss", 0.32).
    """
    found = {**further, **os.environ}
    found.pop("PYTHONPATH", None)
    cores = found.get(THREADS, "") if THREADS in further else ""
    if re.fullmatch(r"\d+(,\d+)*", cores):
        found["OMP_NUM_THREADS"] = str(len(cores.split(",")))
    library = python.parent.parent / "lib" / "libiomp5.so"
    if THREADS in further and library.is_file():
        found = {"LD_PRELOAD": str(library), "KMP_BLOCKTIME": "5", "KMP_TPAUSE": "0"} | found
    return found


def cpu_environment() -> Mapping[str, str]:
    """What vLLM's CPU edition takes from the environment: its KV cache's size, and the cores of its threads."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {"VLLM_CPU_KVCACHE_SPACE": str(CPU_KV_CACHE_GIB), THREADS: ",".join(map(str, cores)) or "auto"}
