"""Who hears how far something is: a function that long work calls now and then."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # how many are done, and all
PartProgress = Callable[[str], None]  # what is under way
TimedProgress = Callable[[float, float, str], None]  # how much is done, of how much, and what is under way
ShareProgress = Callable[[str, float], None]  # what is under way, and the share of all that is done
ManyProgress = Callable[[str], Progress]  # what is under way; who hears how far that is
