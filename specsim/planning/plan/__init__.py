"""Fewest GPUs and lowest cost that meet an SLO at a load.

    space        what may be chosen: GPU types, parallelism, precision, drafters and draft lengths, pools
    schedule     draft lengths by batch size as a choice
    load         the scenario's requests at a rate, and how many of them a run needs
    bounds       by formula: what one replica can serve at most, and limits that even a lone request misses
    fleet        by simulation: whether so many replicas meet the SLO, by how much, and how surely
    size         the fewest replicas that do, and the largest rate that a fleet takes
    choose       branch and bound over all candidates
    growth       GPUs of each month as the load grows
    start        the command that starts a replica
    sensitivity  the answer where acceptance, load, lengths or prices are other than expected

Formulas say what is not worth a simulation; no number of GPUs is an answer that a simulation has not confirmed.
"""
