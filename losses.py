"""Losses as pure functions, one equation each. All return a scalar tensor."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor


def least_squares(logit: Tensor, is_real: bool) -> Tensor:
    """E[(logit - 1)^2] for real, E[logit^2] for fake (LSGAN, arXiv:1611.04076; U-GAT-IT, equation 2)."""
    return (logit - 1).square().mean() if is_real else logit.square().mean()


def absolute_error(image: Tensor, target: Tensor) -> Tensor:
    """E[|image - target|]: the cycle and identity losses (U-GAT-IT, equations 3 and 4)."""
    return (image - target).abs().mean()


def domain_cross_entropy(cam_logit: Tensor, is_source: bool) -> Tensor:
    """-E[log sigmoid(logit)] for the source domain, -E[log(1 - sigmoid(logit))] for the other (U-GAT-IT, equation 5)."""
    label = paddle.ones_like(cam_logit) if is_source else paddle.zeros_like(cam_logit)
    return F.binary_cross_entropy_with_logits(cam_logit, label)
