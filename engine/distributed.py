"""Several processes that train one run, each on its own share of every batch. A process by itself does nothing here.

`python -m paddle.distributed.launch main.py ...` starts the processes and tells each its number in the environment. What they tell
each other is sums of arrays, over NCCL on GPUs and gloo on CPUs. The first process alone writes what belongs to the run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from typing import Iterator, List, Mapping, Sequence

import numpy as np
import paddle
from paddle import Tensor, distributed

from engine.signals import EXIT_CODES
from errors import TrainingError

# How often this process has waited for the others.
_waits = itertools.count()


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def rank() -> int:
    """The number of this process, from 0 on."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0"))


def is_first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def is_first_on_machine() -> bool:
    return os.environ.get("PADDLE_LOCAL_RANK", "0") == "0"


def share_of(count: int) -> range:
    """Which of `count` items are this process's."""
    return range(rank(), count, processes())


def own_samples(batch_size: int) -> range:
    """Which samples of a batch that all processes share, `batch_size` each, are this process's."""
    return range(rank() * batch_size, (rank() + 1) * batch_size)


def start() -> None:
    """Meet the other processes, if there are any."""
    if processes() > 1 and not distributed.is_initialized():
        distributed.init_parallel_env()


def wait_for_all() -> None:
    """Return when every process has come here. This waits for 15 minutes, while a sum over gloo gives up after 30 seconds.

    Raises:
        TrainingError: another process has ended.
    """
    if processes() == 1:
        return
    store, name = paddle.base.core.create_or_get_global_tcp_store(), f"waits/{next(_waits)}"
    with _others_answer():
        if store.add(f"{name}/arrived", 1) == processes():
            store.set(f"{name}/complete", b"1")
        store.wait(f"{name}/complete")


def sum_of(array: np.ndarray) -> np.ndarray:
    """The sum of the arrays of all processes, which have one shape and type.

    Raises:
        TrainingError: another process has ended.
    """
    if processes() == 1:
        return array
    tensor = paddle.to_tensor(array)
    _add_up(tensor)
    return tensor.numpy()


def mean_of(values: Sequence[float]) -> List[float]:
    """The means of these values over all processes. Raises TrainingError as `sum_of`."""
    return (sum_of(np.array(values, np.float64)) / processes()).tolist()


def largest(value: int) -> int:
    """The largest of all processes' values. Raises TrainingError as `sum_of`."""
    values = np.zeros(processes(), np.int64)
    values[rank()] = value
    return int(sum_of(values).max())


def gathered(rows: Mapping[int, np.ndarray], count: int, kind: type = np.float32) -> np.ndarray:
    """All rows, (count, ...), of which every process holds some by their numbers, and the first one row 0. Raises as `sum_of`."""
    if processes() == 1:
        return np.stack([rows[index] for index in range(count)])
    shape = np.zeros(8, np.int64)  # which a process without rows does not know
    if is_first():
        shape[: rows[0].ndim] = rows[0].shape
    shape = sum_of(shape)
    whole = np.zeros((count, *shape[shape > 0]), kind)
    for index, row in rows.items():
        whole[index] = row
    return sum_of(whole)


@paddle.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Make each of the tensors, in place, the mean of those of all processes: one message for each type of number.

    Raises:
        TrainingError: another process has ended.
    """
    if processes() == 1:
        return
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == kind]
        message = paddle.concat([tensor.flatten() for tensor in alike])
        _add_up(message)
        message.scale_(1 / processes())
        for tensor, values in zip(alike, message.split([tensor.size for tensor in alike])):
            tensor.set_value(values.reshape(tensor.shape))


def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Give the tensors, in place, their values in the first process. Raises TrainingError as `sum_of`."""
    if processes() == 1:
        return
    with paddle.no_grad(), _others_answer():
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def _add_up(tensor: Tensor) -> None:
    with _others_answer():
        distributed.all_reduce(tensor)


@contextlib.contextmanager
def _others_answer() -> Iterator[None]:
    """Within it, what Paddle says of a process that has gone becomes a TrainingError. Signals wait: they would end a message."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, EXIT_CODES)
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise TrainingError(
            f"process {rank()}: another process has ended or answers no more ({reason}); the last checkpoint is untouched: see the "
            "logs of the others, then go on with --resume"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
