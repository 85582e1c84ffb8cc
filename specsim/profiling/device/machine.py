"""What this machine is: the facts a profile's header states."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from specsim.reference.network.cpu import this_cpu
from specsim.version import __version__

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about the device under test."""

    device: str
    device_name: str
    threads: int
    clocks: str
    driver: str
    versions: dict[str, str]
    last_level_cache_bytes: int
    memory_bytes: int
    processors: int | None = None  # of a GPU, that share out a kernel's blocks

    def slug(self) -> str:
        """A folder name, a hardware preset's where they agree: ``cpu-amd-epyc-9b14-2-threads``, ``h200``."""
        name = re.sub(r"[^a-z0-9]+", "-", self.device_name.lower()).strip("-").removeprefix("nvidia-")
        return name if self.device == "cuda" else f"cpu-{name}-{self.threads}-threads"


def inspect(device: str) -> Machine:
    """Look at the machine that would be measured."""
    versions = {
        "specsim": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    if device == "cuda":
        return _inspect_cuda(versions)
    cpu = this_cpu()
    versions = versions | {"instructions": cpu.instructions}
    return Machine(
        device,
        cpu.name,
        cpu.threads,
        _cpu_clock(),
        "none",
        versions,
        cpu.last_level_cache_bytes,
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def default_dtype(device: str) -> str:
    """What this device is measured in unless a dtype is named: bfloat16 on a GPU, on a CPU what is native there."""
    return "bfloat16" if device == "cuda" else this_cpu().default_dtype


def _inspect_cuda(versions: dict[str, str]) -> Machine:
    facts = torch.cuda.get_device_properties(0)
    driver, clocks = _nvml_facts()
    versions = versions | {"cuda": str(torch.version.cuda)}
    return Machine(
        "cuda",
        facts.name,
        1,
        clocks,
        driver,
        versions,
        int(facts.L2_cache_size),
        int(facts.total_memory),
        int(facts.multi_processor_count),
    )


def _nvml_facts() -> tuple[str, str]:
    """Driver and clocks; a header without them beats no profile."""
    try:
        import pynvml
    except ImportError:
        return "unknown (nvidia-ml-py is not installed)", "not locked"
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        top = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        return str(pynvml.nvmlSystemGetDriverVersion()), f"not locked, SM maximum {top} MHz"
    except pynvml.NVMLError as error:
        return f"unknown ({error})", "not locked"


def _cpu_clock() -> str:
    try:
        found = re.search(r"^cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"not locked, {float(found.group(1)):.0f} MHz when read" if found else "unknown"
