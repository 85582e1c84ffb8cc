"""The efficiency surfaces of a profile, each made when it is first asked for and kept between runs."""

from __future__ import annotations

import statistics

from specsim.disk_cache import kept
from specsim.profiles.store import Profile
from specsim.surfaces.efficiency import EfficiencySurface
from specsim.surfaces.row_groups import RowGroup, row_groups, stated_surface


class ProfileSurfaces:
    """A profile's surfaces by (class, operation, format, cache state, regime of attention), made when first asked for.

    Where one kernel computes attention at any width, as on a CPU, decoding is the narrow end of verification.
    """

    def __init__(self, profile: Profile) -> None:
        self._header, self._sha256 = profile.header, profile.sha256
        self._groups = {
            (kind, group.operation, group.dtype, group.cache, group.regime): group
            for kind, rows in profile.rows.items()
            for group in row_groups(kind, rows)
        }
        for key, group in list(self._groups.items()):
            if key[4] == "verify" and len({row.kernel for row in group.rows}) == 1:
                self._groups[(*key[:4], "decode")] = group
        self._made: dict[str, EfficiencySurface] = {}

    def library(self, kind: str) -> str:
        """The kernel that most of a class's rows name, empty where there are none."""
        names = [row.kernel for key, group in self._groups.items() if key[0] == kind for row in group.rows]
        return statistics.mode(names) if names else ""

    def formats(self, kind: str) -> set[str]:
        """Formats in which a class was measured."""
        return {key[2] for key in self._groups if key[0] == kind}

    def get(self, key: tuple[str, str, str, str, str]) -> EfficiencySurface | None:
        """The surface of a key, None if nothing like it was measured."""
        group = self._groups.get(key)
        if group is None:
            return None
        if group.name not in self._made:
            self._made[group.name] = self._surface(group)
        return self._made[group.name]

    def _surface(self, group: RowGroup) -> EfficiencySurface:
        if not self._sha256:
            return stated_surface(group, self._header)
        key = f"{self._sha256} {group.name}"
        surface = kept(key, lambda: stated_surface(group, self._header))
        surface.kept_as = key
        return surface
