"""A step's seconds from tables, compiled: what a simulated step is charged in about a microsecond.

``cost`` and ``speculation`` price a step kernel by kernel, which takes about a millisecond. Here the same price is put
together from tables that are made once a scenario:

span            what the tables must span, and their knots
records         the step that is asked about (WORK, GROUP) and a pass in tables (RUN)
kernel_tables   seconds of one pass's kernels, over tokens, rows of logits, groups and prompts
tabulate        a round (``speculation.round.RoundCost``) as its passes; ``tabulate_whole``: a source that knows whole
                steps alone
price           the compiled sum: which passes a step takes, host and device overlapped as the round has them;
                ``kernel_seconds``: the look-ups
table_prices    the tables as a price source, tried on random steps against the source that they were made from
"""
