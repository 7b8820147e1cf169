"""Learning rates as pure functions of the iteration, so that resuming needs no state."""

from __future__ import annotations


def linear_decay(iteration: int, total: int) -> float:
    """Factor of the learning rate at `iteration` = 1..total: 1 to the half, then linear to 0 (U-GAT-IT, section 4.1).

    The authors subtract lr / (total // 2) each step, which is the same but divides by zero at total = 1.
    """
    return min(1.0, (total - iteration) / (total - total // 2))
