"""Real serving engines, each a subprocess of its own installation: started, asked, counted and stopped.

``measure --engine`` runs a scenario here: whole workloads on the engine's server (``run``), or in its own Python,
stepped by a driver that only that Python runs, the batch × k map (``rounds``) and loads (``stepped_loads``). Nothing
is imported of an engine, so specsim's own environment needs neither torch nor the engine.
"""

from specsim.engines.adapter import Adapter, Checkpoints, Launch, OfflineEngine
from specsim.engines.installation import engine_python
from specsim.engines.run import Arms
from specsim.engines.sglang import SGLang
from specsim.engines.stepped_loads import SteppedLoads
from specsim.engines.transformers import Transformers
from specsim.engines.vllm import VLLM

__all__ = [
    "VLLM",
    "Adapter",
    "Arms",
    "Checkpoints",
    "Launch",
    "OfflineEngine",
    "SGLang",
    "SteppedLoads",
    "Transformers",
    "engine_python",
]
