"""Half precision (--amp): what is computed in it, and the scale of the loss that fp16 needs.

On a GPU, convolutions and matrix products are computed in half precision and everything else in float32: Paddle's level "OD".
Its "O1" would leave it to each operation's inputs, and maps, statistics and losses would come out in either type. On a CPU bf16
means the convolutions alone, which `ops.convolve_in` chooses; there `forward` does nothing.
"""

from __future__ import annotations

import contextlib
from typing import Any, ContextManager, Dict, Mapping, Optional

import paddle
from paddle import Tensor

import onednn
from engine.cpu import has_bf16
from errors import ConfigError

TYPES = {"bf16": "bfloat16", "fp16": "float16"}
# Below these compute capabilities `auto_cast` warns and does nothing.
LEAST_CAPABILITY = {"bf16": (8, 0), "fp16": (7, 0)}
# The defaults of paddle.amp.GradScaler.
FIRST_SCALE = 2.0**16
ITERATIONS_TO_GROW = 2000


def refuse_amp(amp: Optional[str], device: str) -> None:
    """Raise ConfigError where the chosen device, cpu or gpu, does not compute in `amp` (bf16, fp16 or None)."""
    if amp is None:
        return
    if device == "gpu":
        capability, least = paddle.device.cuda.get_device_capability(), LEAST_CAPABILITY[amp]
        if tuple(capability) < least:
            found, needed = ("{}.{}".format(*numbers) for numbers in (capability, least))
            raise ConfigError(f"--amp {amp} needs a GPU of compute capability {needed}, this one has {found}; leave out --amp")
    elif amp == "fp16":
        raise ConfigError("--amp fp16 needs a GPU, and this command runs on a CPU; leave out --amp, or use a machine that has one")
    elif not (has_bf16() and onednn.available()):
        raise ConfigError(
            "--amp bf16: this processor has neither AVX512-BF16 nor AMX-BF16, or oneDNN is missing or switched off, and bf16 would "
            "only be slower; leave out --amp, or use a machine that has them"
        )


class Precision:
    """The precision of a method's forward passes, and the loss scale of fp16 (arXiv:1710.03740, section 3.2).

    Gradients too small for fp16 would become 0: the loss is multiplied by `scale`, and before a step the gradients are divided by
    it. Where one of them is not finite, the step is skipped and the scale halved; after 2000 iterations without that it doubles.

    paddle.amp.GradScaler does the same, but switches itself off on a CPU, where its logic could not be tested, and with two
    optimizers it forgets the first one's overflow.

    Args:
        amp: bf16, fp16, or None for float32, which leaves everything as it is.
    """

    def __init__(self, amp: Optional[str]) -> None:
        on_gpu = paddle.device.get_device().startswith("gpu")
        self.half = TYPES[amp] if amp and on_gpu else None
        self.scales = amp == "fp16"
        self.scale = FIRST_SCALE
        self.skipped_steps = 0
        # Iterations since the scale changed, and whether this one had an overflow.
        self.iterations, self.overflow = 0, False

    def forward(self) -> ContextManager:
        """Within it, networks are computed in half precision."""
        if self.half is None:
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(level="OD", dtype=self.half, custom_white_list={"conv2d_transpose"})

    def backward(self, loss: Tensor) -> None:
        """The gradients of `loss`, times the scale in fp16. Each operation's are computed in the type that it was computed in."""
        with paddle.amp.auto_cast(False):
            (loss * self.scale if self.scales else loss).backward()

    def unscale(self, optimizer: paddle.optimizer.Optimizer) -> bool:
        """Take the scale out of the gradients of an optimizer's parameters; False where its step has to be skipped."""
        if not self.scales:
            return True
        gradients = [parameter.grad for parameter in optimizer._parameter_list if parameter.grad is not None]
        if not bool(paddle.stack([gradient.isfinite().all() for gradient in gradients]).all()):
            self.overflow = True
            self.skipped_steps += 1
            return False
        with paddle.no_grad():
            for gradient in gradients:
                gradient.scale_(1 / self.scale)
        return True

    def end_iteration(self) -> None:
        """Adapt the scale, once for all optimizers of an iteration. It stays at 1 or above."""
        self.iterations += 1
        if self.overflow:
            self.scale, self.iterations = max(1.0, self.scale / 2), 0
        elif self.iterations == ITERATIONS_TO_GROW:
            self.scale, self.iterations = self.scale * 2, 0
        self.overflow = False

    def statistics(self) -> Dict[str, float]:
        """For the logs; empty without a scale."""
        return {"loss_scale": self.scale, "skipped_steps": self.skipped_steps} if self.scales else {}

    def state(self) -> Dict[str, Any]:
        """What a checkpoint's meta.json holds; empty without a scale."""
        return {**self.statistics(), "iterations": self.iterations} if self.scales else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        if state:
            self.scale, self.skipped_steps, self.iterations = (
                state[name] for name in ("loss_scale", "skipped_steps", "iterations")
            )
