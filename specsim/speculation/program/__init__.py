"""A technique as data: a YAML file over one general machine, never a code path.

    phases      where, weights, passes, width, first_pass, placement, host time      program/phase.py, draft_weights.py
    proposal    chain, copy, copy_tree, static_tree, dynamic_tree, dag, window, none  program/proposal.py
    verify      rule, from_layer                                                     program/draft_program.py
    modifier    exit, weights, sequences, experts: what changes the target's pass    program/modifier.py
    lookahead, budget_slots, footprint, draft_tokens, stop, acceptance, figures, unknown

From there: ``round.py`` prices a round of it, ``cost/memory.py`` its memory, ``acceptance`` says what it commits.
"""

from specsim.speculation.program.catalog import PRESETS, find_program, load_program, program_names
from specsim.speculation.program.draft_program import ABOUT, DefaultAcceptance, DraftProgram, VerifyPlan
from specsim.speculation.program.modifier import TargetModifier
from specsim.speculation.program.phase import Phase

__all__ = [
    "ABOUT",
    "PRESETS",
    "DefaultAcceptance",
    "DraftProgram",
    "Phase",
    "TargetModifier",
    "VerifyPlan",
    "find_program",
    "load_program",
    "program_names",
]
