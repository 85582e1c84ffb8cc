"""Real serving engines, each a subprocess of its own installation: started, asked, counted and stopped.

``measure --engine`` runs a scenario here. Nothing is imported of an engine: its command line, its HTTP interface and
its counters are all that is used, so specsim's own environment needs neither torch nor the engine.
"""

from specsim.engines.adapter import Adapter, Checkpoints, Launch
from specsim.engines.installation import engine_python
from specsim.engines.run import Arms
from specsim.engines.sglang import SGLang
from specsim.engines.vllm import VLLM

__all__ = ["VLLM", "Adapter", "Arms", "Checkpoints", "Launch", "SGLang", "engine_python"]
