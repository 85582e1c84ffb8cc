"""One part of drafting: where it runs, on which weights, in how many passes of which width, and when."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from specsim.speculation.program.draft_weights import WeightList
from specsim.speculation.program.proposal import ProposalSpec, Window
from specsim.validated import Validated


class Phase(Validated):
    """Phases run in order.

    ``passes``: sequential ones; per_token is k, depth that of the proposal's tree. ``width``: tokens a sequence of
    each pass; per_token is k, proposal what the shape of the proposal says. ``first_pass``: it carries the tokens
    computed since the last draft (committed), or only the last one of each sequence. ``placement``: fused puts
    ``width`` more tokens a sequence (proposal: one a depth of the tree, or the Jacobi window) into the target's own
    pass from layer ``from_layer`` on and drafts the next tokens in it; overlapped runs beside the target pass, so that
    the longer of the two counts.
    """

    where: Literal["gpu", "cpu"] = "gpu"
    weights: WeightList = ()
    passes: Literal["per_token", "depth", "none"] | PositiveInt = 1
    width: Literal["per_token", "proposal"] | PositiveInt = 1
    first_pass: Literal["committed", "last"] = "committed"
    placement: Literal["before_verify", "fused", "overlapped"] = "before_verify"
    from_layer: NonNegativeInt = 0
    graphs: bool = True  # its passes can be captured as CUDA graphs
    host_s_per_pass: NonNegativeFloat | None = None  # None: the engine's time of a draft pass
    host_s_per_sequence: NonNegativeFloat = 0.0  # assumed where no profile measures it
    host_part: Literal["ngram"] | None = None  # what a profile calls this host work

    @model_validator(mode="after")
    def _consistent(self) -> Phase:
        if self.where == "cpu" and self.weights:
            raise ValueError("a phase on the cpu runs no weights here; leave weights out or set where: gpu")
        if self.from_layer and self.placement != "fused":
            raise ValueError(f"from_layer is {self.from_layer} and placement {self.placement}; only fused has a layer")
        if self.placement == "fused" and self.weights:
            raise ValueError("a fused phase only widens the target's pass; give its weights a phase of their own")
        if self.placement == "fused" and self.passes != 1:
            raise ValueError("a fused phase is part of one target pass; leave passes out")
        return self

    def pass_widths(self, proposal: ProposalSpec, draft_tokens: int) -> tuple[int, ...]:
        """Tokens a sequence of each sequential pass that drafts ``draft_tokens``."""
        if not draft_tokens or self.passes == "none" or self.where == "cpu" or self.placement == "fused":
            return ()
        shape = proposal.pass_widths(draft_tokens)
        if self.width == "proposal":
            return shape
        width = draft_tokens if self.width == "per_token" else self.width
        count = {"per_token": draft_tokens, "depth": len(shape)}.get(str(self.passes), self.passes)
        return (width,) * int(count)

    def extra_width(self, proposal: ProposalSpec, draft_tokens: int) -> tuple[int, int]:
        """Tokens a sequence that the phase adds to the target pass, and how many of them need logits."""
        if self.placement != "fused" or not draft_tokens:
            return 0, 0
        if isinstance(proposal, Window) and self.width == "proposal":
            return proposal.extra_width, proposal.window
        width = draft_tokens if self.width == "per_token" else self.width
        width = len(proposal.pass_widths(draft_tokens)) if width == "proposal" else int(width)
        return width, width
