"""Losses as pure functions, one equation each. All return a scalar tensor."""

from __future__ import annotations

import math
from typing import Callable

import paddle
import paddle.nn.functional as F
from paddle import Tensor

import ops


def least_squares(logit: Tensor, is_real: bool) -> Tensor:
    """E[(logit - 1)^2] for real, E[logit^2] for fake (LSGAN, arXiv:1611.04076; U-GAT-IT, equation 2)."""
    return (logit - 1).square().mean() if is_real else logit.square().mean()


def absolute_error(image: Tensor, target: Tensor) -> Tensor:
    """E[|image - target|]: the cycle and identity losses (U-GAT-IT, equations 3 and 4)."""
    return (image - target).abs().mean()


def squared_error(image: Tensor, target: Tensor) -> Tensor:
    """E[(image - target)^2]: Pix2Pix's comparison with an L2 loss."""
    return (image - target).square().mean()


def cross_entropy(logit: Tensor, is_real: bool) -> Tensor:
    """-E[log D] for real, -E[log(1 - D)] for fake, where D = sigmoid(logit) (Pix2Pix, equation 1)."""
    label = paddle.ones_like(logit) if is_real else paddle.zeros_like(logit)
    return F.binary_cross_entropy_with_logits(logit, label)


def wasserstein(logit: Tensor, is_real: bool) -> Tensor:
    """-E[logit] for real, E[logit] for fake (WGAN-GP, arXiv:1704.00028, equation 3)."""
    return -logit.mean() if is_real else logit.mean()


# Each of these two losses, of real or of fake, where the discriminator answers 1/2. Wasserstein's has no such answer.
UNDECIDED = {"lsgan": 0.25, "vanilla": math.log(2)}
ADVERSARIAL = {"lsgan": least_squares, "vanilla": cross_entropy, "wgangp": wasserstein}


@paddle.amp.auto_cast(False)
def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E[(|grad D(x)| - 1)^2] at random points x between real and fake (WGAN-GP, equation 3, there times lambda = 10).

    Under --amp the discriminator's pass here stays in float32: its gradient is part of the loss.
    """
    share = ops.draw_share(lambda shape: paddle.rand(shape, real.dtype), [real.shape[0], 1, 1, 1])
    between = (share * real + (1 - share) * fake).detach()
    between.stop_gradient = False
    with ops.second_derivatives():
        (gradient,) = paddle.grad(discriminator(between).sum(), between, create_graph=True)
    # The small number keeps the root differentiable where the gradient is 0.
    return ((gradient.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()


def domain_cross_entropy(cam_logit: Tensor, is_source: bool) -> Tensor:
    """-E[log sigmoid(logit)] for the source domain, -E[log(1 - sigmoid(logit))] for the other (U-GAT-IT, equation 5)."""
    return cross_entropy(cam_logit, is_source)
