"""Learning rates as pure functions of the iteration, so that resuming needs no state."""

from __future__ import annotations

import math

EPOCHS_A_STEP, STEP_FACTOR = 50, 0.1


def linear_decay(iteration: int, total: int) -> float:
    """Factor of the learning rate at `iteration` = 1..total: 1 to the half, then linear to 0.

    The authors subtract lr / (total // 2) each step, which is the same but divides by zero at total = 1.
    """
    return min(1.0, (total - iteration) / (total - total // 2))


def by_epochs(policy: str, iteration: int, total: int, n_epochs: int, n_epochs_decay: int) -> float:
    """Factor of the learning rate at `iteration` = 1..total in a training of n_epochs + n_epochs_decay epochs.

    linear is 1 for n_epochs epochs, then falls to 0 (arXiv:1703.10593, section 4). step divides by 10 every 50 epochs, cosine falls
    to 0 over all of them. An epoch is the same part of `total` whatever that is, so a training shortened by
    --iteration has the whole schedule.
    """
    epochs = n_epochs + n_epochs_decay
    epoch = (iteration - 1) * epochs // total
    if policy == "linear":
        return 1 - max(0, epoch + 1 - n_epochs) / (n_epochs_decay + 1)
    if policy == "step":
        return STEP_FACTOR ** (epoch // EPOCHS_A_STEP)
    return (1 + math.cos(math.pi * epoch / epochs)) / 2
