"""CycleGAN (Zhu et al., ICCV 2017, arXiv:1703.10593): unpaired translation held together by cycle consistency."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

import numpy as np
import paddle
from paddle import Tensor

from config import CycleGANConfig, default_blocks
from engine.schedule import epoch_rate
from engine.trainer import Losses, Trainer, Translation, frozen
from layers import init_weights
from losses import ADVERSARIAL, absolute_error, gradient_penalty
from networks import CycleGANGenerator, PatchGAN, both_passes
from utils import Row


class ImagePool:
    """Earlier fakes for the discriminators (section 4, after Shrivastava et al.): half of what it gives back is older.

    Args:
        size: images kept; 0 gives back what comes in.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: List[np.ndarray] = []

    def query(self, fakes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Take in (N, C, H, W) and give back as many: until the pool is full the same, then each or an older one."""
        given = []
        for fake in fakes:
            if len(self.images) < self.size:
                self.images.append(fake)
                given.append(fake)
            elif self.size and rng.random() < 0.5:
                place = int(rng.integers(self.size))
                given.append(self.images[place])
                self.images[place] = fake
            else:
                given.append(fake)
        return np.stack(given)


class CycleGAN(Trainer):
    """G_A (A to B) and G_B (B to A) against D_A, which judges images of B, and D_B, which judges images of A (section 3)."""

    config: CycleGANConfig

    def __init__(self, config: CycleGANConfig) -> None:
        super().__init__(config)
        n_blocks = config.n_blocks or default_blocks(config.img_size)
        self.G_A, self.G_B = (CycleGANGenerator(config.img_ch, config.ch, n_blocks, config.norm, config.upsample) for _ in range(2))
        self.D_A, self.D_B = (PatchGAN(config.img_ch, config.ch, config.n_layers_D, config.norm) for _ in range(2))
        self.add_networks(G_A=self.G_A, G_B=self.G_B, D_A=self.D_A, D_B=self.D_B)
        for network in self.networks.values():
            init_weights(network, config.init_type, config.init_gain)
        self.add_adam("G", [self.G_A, self.G_B], beta1=0.5, beta2=0.999)
        self.add_adam("D", [self.D_A, self.D_B], beta1=0.5, beta2=0.999)
        self.pools = {"fake_A": ImagePool(config.pool_size), "fake_B": ImagePool(config.pool_size)}
        self.adversarial = ADVERSARIAL[config.gan_mode]

    def learning_rate(self, iteration: int) -> float:
        return epoch_rate(self.config, iteration)

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        """One iteration: the generators with the discriminators frozen, then the discriminators on pooled fakes (section 4)."""
        real_A, real_B = batch["real_A"], batch["real_B"]
        lambda_A, lambda_B, lambda_identity = self.config.lambda_A, self.config.lambda_B, self.config.lambda_identity
        losses: Losses = {}

        if lambda_identity > 0:
            fake_B, idt_A = both_passes(self.G_A, real_A, real_B, self.config.norm)
            fake_A, idt_B = both_passes(self.G_B, real_B, real_A, self.config.norm)
            losses["idt_A"] = absolute_error(idt_A, real_B) * lambda_B * lambda_identity
            losses["idt_B"] = absolute_error(idt_B, real_A) * lambda_A * lambda_identity
        else:
            fake_B, fake_A = self.G_A(real_A), self.G_B(real_B)
        losses["cycle_A"] = absolute_error(self.G_B(fake_B), real_A) * lambda_A
        losses["cycle_B"] = absolute_error(self.G_A(fake_A), real_B) * lambda_B
        with frozen(self.D_A, self.D_B):
            losses["G_A"] = self.adversarial(self.D_A(fake_B), True)
            losses["G_B"] = self.adversarial(self.D_B(fake_A), True)
        losses["G_total"] = sum(losses.values())
        losses["G_total"].backward()
        self.apply_gradients("G")

        fake_B, fake_A = self._pooled("fake_B", fake_B), self._pooled("fake_A", fake_A)
        terms = {**self._judge("D_A", real_B, fake_B), **self._judge("D_B", real_A, fake_A)}
        terms["D_total"] = sum(terms.values())
        terms["D_total"].backward()
        self.apply_gradients("D")
        return {**losses, **terms}

    def _judge(self, name: str, real: Tensor, fake: Tensor) -> Losses:
        """The loss terms of one discriminator."""
        discriminator = self.networks[name]
        real_logit, fake_logit = both_passes(discriminator, real, fake, self.config.norm)
        terms = {name: (self.adversarial(real_logit, True) + self.adversarial(fake_logit, False)) * 0.5}
        if self.config.gan_mode == "wgangp":
            terms[f"{name}_penalty"] = gradient_penalty(discriminator, real, fake)
        return terms

    def _pooled(self, name: str, fakes: Tensor) -> Tensor:
        """`fakes` detached, half of them exchanged for older ones."""
        if not self.config.pool_size:
            return fakes.detach()
        rng = np.random.default_rng([self.config.seed, self.iteration, sorted(self.pools).index(name)])
        return paddle.to_tensor(self.pools[name].query(fakes.detach().numpy(), rng))

    def extra_state(self) -> Dict[str, np.ndarray]:
        """The images of both pools, in order."""
        return {f"pool/{name}": np.stack(pool.images) for name, pool in self.pools.items() if pool.images}

    def restore_extra(self, arrays: Dict[str, np.ndarray]) -> None:
        for name, pool in self.pools.items():
            pool.images = list(arrays.get(f"pool/{name}", []))

    def generate(self, direction: str, images: Tensor) -> Tensor:
        return (self.G_A if direction == "A2B" else self.G_B)(images)

    def translate(self, direction: str, images: Tensor, truth: Optional[Tensor] = None) -> Translation:
        """Input, output, reconstruction, identity."""
        source, target = direction.split("2")
        forward, back = (self.G_A, self.G_B) if direction == "A2B" else (self.G_B, self.G_A)
        fake = forward(images)
        reconstruction, identity = both_passes(back, fake, images, self.config.norm)
        rows = [
            Row(f"real_{source}", images.numpy()),
            Row(f"fake_{target}", fake.numpy()),
            Row(f"rec_{source}", reconstruction.numpy()),
            Row(f"idt_{target}", identity.numpy()),
        ]
        return Translation(fake.numpy(), rows)
