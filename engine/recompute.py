"""Less memory for more time (--recompute): of a generator's pass only the input is kept (Chen et al., arXiv:1604.06174).

Its gradients need all maps of the pass, which is computed once more when they are asked for. So the maps of one pass at a time are
in memory, where a step may have several.
"""

from __future__ import annotations

import functools
from typing import Callable, ContextManager, List, Tuple

import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

Pass = Callable[[Tensor], Tuple[Tensor, ...]]


def recompute_passes(network: nn.Layer, precision: Callable[[], ContextManager]) -> None:
    """From now on keep of every pass of `network` its input alone, wherever gradients are computed.

    Args:
        network: takes one tensor, gives a tensor or a named tuple of tensors, some of which may be None.
        precision: the context that passes run in, `Precision.forward`.
    """
    network.forward = functools.partial(_run, network, network.forward, precision)


def _run(network: nn.Layer, forward: Callable, precision: Callable[[], ContextManager], x: Tensor):
    if not paddle.is_grad_enabled():
        return forward(x)
    kind, present = Tensor, ()

    def compute(x: Tensor) -> Tuple[Tensor, ...]:
        nonlocal kind, present
        with precision():
            output = forward(x)
        kind = type(output)
        if kind is Tensor:
            return (output,)
        present = [value is not None for value in output]
        return tuple(value for value in output if value is not None)

    if x.stop_gradient:
        # Without an input that takes a gradient, Paddle would not ask for those of the weights either.
        x = x.detach()
        x.stop_gradient = False
    values = iter(_Recomputed.apply(x, compute, network.sublayers(include_self=True)))
    return next(values) if kind is Tensor else kind(*(next(values) if there else None for there in present))


class _Recomputed(PyLayer):
    """paddle.distributed.fleet.utils.recompute does not know the level of --amp on a GPU, and batch norm would take its running
    statistics twice."""

    @staticmethod
    def forward(ctx, x: Tensor, compute: Pass, layers: List[nn.Layer]) -> Tuple[Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.compute, ctx.layers, ctx.random = compute, layers, paddle.get_rng_state()
        with paddle.no_grad():
            return compute(x)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensor()
        x = x.detach()
        x.stop_gradient = False
        buffers, random = [dict(layer._buffers) for layer in ctx.layers], paddle.get_rng_state()
        paddle.set_rng_state(ctx.random)
        with paddle.enable_grad():
            outputs = ctx.compute(x)
        paddle.set_rng_state(random)
        for layer, before in zip(ctx.layers, buffers):
            layer._buffers.update(before)
        paddle.autograd.backward(list(outputs), list(gradients))
        return x.grad
