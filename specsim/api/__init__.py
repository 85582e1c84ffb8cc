"""The functions that ``import specsim`` offers, one file each: what the command line's verbs answer, as objects.

words      the words that every question is asked in, and ``ask``
predict    the batch × k map, by formula
simulate   the workload under load, in discrete events
compare    drafters side by side
tune       the batch -> k schedule for an engine
plan       fewest GPUs and lowest cost that meet an SLO
fit        the acceptance law of an engine's logs
report     the document for the team
"""
