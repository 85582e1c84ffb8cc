"""The step loop of open-loop runs, compiled: the same rules as ``scheduling`` and ``serving.replica``, on arrays.

Imported only for runs that are large enough to pay for it, as numba takes a while to load.
"""
