"""The capacity-planning report: one document that a serving engineer sends to the team.

    answers        what is computed for it, by the packages that also answer the other verbs
    decision       verdict, service levels, and what to paste into the engine
    fleet          GPUs and cost
    speed          speed-up map, where time goes, Pareto frontier, latency against load, drafters
    basis          memory, assumptions with their origin, sensitivity, risks, measured errors, how to repeat it
    blocks         sections, tables, figures and listings; written by html_page and markdown_page

What a question lacks (a rate, an SLO, prices, a drafter) leaves its section out, or in one line what to give.
"""

from specsim.report.document.blocks import Document
from specsim.report.document.write import Evidence, capacity_report

__all__ = ["Document", "Evidence", "capacity_report"]
