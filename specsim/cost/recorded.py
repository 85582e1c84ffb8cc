"""The kernels that a price was asked of: what a step runs, one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

from specsim.arrays import Reals
from specsim.cost.forward import Kernel, KernelPrices, Price


@dataclass(slots=True, eq=False)
class RecordedPrices:
    """Prices as ``prices`` says them, and each kernel with its price in the order in which they were asked."""

    prices: KernelPrices
    asked: list[tuple[Kernel, Price]] = field(default_factory=list)

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """As the prices under it."""
        found = self.prices.price(kernel, warm=warm)
        self.asked.append((kernel, found))
        return found

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        """As the prices under it."""
        return self.prices.host_s(part, sequences)

    @property
    def name(self) -> str:
        """As the prices under it."""
        return self.prices.name

    @property
    def machine_error(self) -> float:
        """As the prices under it."""
        return self.prices.machine_error
