"""CycleGAN (Zhu et al., ICCV 2017, arXiv:1703.10593): unpaired translation held together by cycle consistency."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

import numpy as np
import paddle
from paddle import Tensor

from config import CycleGANConfig, default_blocks
from engine import distributed
from engine.health import Watched
from engine.method import Losses, Method, Row, Translation, adam, frozen
from engine.schedule import by_epochs
from errors import CheckpointError
from layers import init_weights
from losses import ADVERSARIAL, UNDECIDED, absolute_error, gradient_penalty
from networks import CycleGANGenerator, PatchGAN, both_passes


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


class CycleGAN(Method):
    """G_A (A to B) and G_B (B to A) against D_A, which judges images of B, and D_B, which judges images of A (section 3).

    Args:
        config: sizes, loss weights, rates.
        training: False builds the generators alone, which is all that a translation needs.
    """

    config: CycleGANConfig
    generator_names = {"A2B": "G_A", "B2A": "G_B"}

    def __init__(self, config: CycleGANConfig, training: bool = True) -> None:
        super().__init__(config)
        n_blocks = config.n_blocks or default_blocks(config.img_size)
        self.G_A, self.G_B = (CycleGANGenerator(config.img_ch, config.ch, n_blocks, config.norm, config.upsample) for _ in range(2))
        self.generators = self.named(G_A=self.G_A, G_B=self.G_B)
        if training:
            self._prepare_training()

    def _prepare_training(self) -> None:
        config = self.config
        self.D_A, self.D_B = (PatchGAN(config.img_ch, config.ch, config.n_layers_D, config.norm) for _ in range(2))
        self.discriminators = self.named(D_A=self.D_A, D_B=self.D_B)
        for network in self.networks.values():
            init_weights(network, config.init_type, config.init_gain)
        self.optimizers["G"] = adam(self.generators, config)
        self.optimizers["D"] = adam(self.discriminators, config)
        self.pools = {"fake_A": ImagePool(config.pool_size), "fake_B": ImagePool(config.pool_size)}
        self.adversarial = ADVERSARIAL[config.gan_mode]

    def learning_rate(self, iteration: int) -> float:
        config = self.config
        return config.lr * by_epochs(config.lr_policy, iteration, config.iteration, config.n_epochs, config.n_epochs_decay)

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        """One iteration: the generators with the discriminators frozen, then the discriminators on pooled fakes (section 4)."""
        real_A, real_B = batch["real_A"], batch["real_B"]
        if self.config.lambda_identity > 0:
            fake_B, idt_A = both_passes(self.G_A, real_A, real_B, self.config.norm)
            fake_A, idt_B = both_passes(self.G_B, real_B, real_A, self.config.norm)
        else:
            (fake_B, fake_A), (idt_A, idt_B) = (self.G_A(real_A), self.G_B(real_B)), (None, None)

        G_losses = self.generator_losses(real_A, real_B, fake_A, fake_B, idt_A, idt_B)
        self.update("G", G_losses["G_total"])

        D_losses = {
            **self.discriminator_losses("D_A", real_B, self._pooled("fake_B", fake_B)),
            **self.discriminator_losses("D_B", real_A, self._pooled("fake_A", fake_A)),
        }
        D_losses["D_total"] = sum(D_losses.values())
        self.update("D", D_losses["D_total"])
        return {**G_losses, **D_losses}

    def generator_losses(
        self, real_A: Tensor, real_B: Tensor, fake_A: Tensor, fake_B: Tensor, idt_A: Optional[Tensor], idt_B: Optional[Tensor]
    ) -> Losses:
        """The full objective (equation 3) with the identity loss of section 5.2; every term is weighted."""
        lambda_A, lambda_B, lambda_identity = self.config.lambda_A, self.config.lambda_B, self.config.lambda_identity
        losses: Losses = {}
        if idt_A is not None:
            losses["idt_A"] = lambda_B * lambda_identity * absolute_error(idt_A, real_B)
            losses["idt_B"] = lambda_A * lambda_identity * absolute_error(idt_B, real_A)
        losses["cycle_A"] = lambda_A * absolute_error(self.G_B(fake_B), real_A)
        losses["cycle_B"] = lambda_B * absolute_error(self.G_A(fake_A), real_B)
        with frozen(self.discriminators):
            losses["G_A"] = self.adversarial(self.D_A(fake_B), True)
            losses["G_B"] = self.adversarial(self.D_B(fake_A), True)
        losses["G_total"] = sum(losses.values())
        return losses

    def discriminator_losses(self, name: str, real: Tensor, fake: Tensor) -> Losses:
        """The loss terms of one discriminator (equation 1, with the factor 1/2 of section 4)."""
        discriminator = self.discriminators[name]
        real_logit, fake_logit = both_passes(discriminator, real, fake, self.config.norm)
        losses = {name: 0.5 * (self.adversarial(real_logit, True) + self.adversarial(fake_logit, False))}
        if self.config.gan_mode == "wgangp":
            losses[f"{name}_penalty"] = self.config.lambda_gp * gradient_penalty(discriminator, real, fake)
        return losses

    def _pooled(self, name: str, fakes: Tensor) -> Tensor:
        """`fakes` detached, half of them exchanged for older ones."""
        if not self.config.pool_size:
            return fakes.detach()
        rng = np.random.default_rng([self.config.seed, self.iteration, sorted(self.pools).index(name)])
        # Every process keeps the pool of all, so that it does not depend on their number.
        own = distributed.own_samples(len(fakes))
        every = distributed.gathered(dict(zip(own, fakes.detach().numpy())), distributed.processes() * len(fakes))
        return paddle.to_tensor(self.pools[name].query(every, rng)[own.start : own.stop])

    def extra_state(self) -> Dict[str, np.ndarray]:
        """The images of both pools, in order."""
        return {f"pool/{name}": np.stack(pool.images) for name, pool in self.pools.items() if pool.images}

    def restore_extra(self, arrays: Dict[str, np.ndarray]) -> None:
        side = self.config.img_size
        for name, pool in self.pools.items():
            images = arrays.get(f"pool/{name}", np.zeros((0, self.config.img_ch, side, side), np.float32))
            if images.dtype != np.float32 or images.shape[1:] != (self.config.img_ch, side, side) or len(images) > pool.size:
                raise CheckpointError(f"--resume: the pool of {name} is not of images of this run ({images.shape})")
            pool.images = list(images)

    def watched(self) -> Watched:
        """The discriminators, but for Wasserstein's critics, whose losses have no zero; the cycle and identity losses."""
        undecided = UNDECIDED.get(self.config.gan_mode)
        judges = {name: ([name], undecided) for name in self.discriminators} if undecided else {}
        return Watched(judges, [("cycle_A", "cycle_B"), ("idt_A", "idt_B")])

    def translate(self, direction: str, images: Tensor) -> Tensor:
        return self.generator(direction)(images)

    def translate_with_rows(self, direction: str, images: Tensor, truth: Optional[Tensor] = None) -> Translation:
        """Input, output, reconstruction and identity, which need a generator back, and, where it is known, the truth."""
        source, target = direction.split("2")
        fake, back = self.generator(direction)(images), self.generator(direction[::-1])
        rows = [Row(f"real_{source}", images.numpy()), Row(f"fake_{target}", fake.numpy())]
        if back is not None:
            reconstruction, identity = both_passes(back, fake, images, self.config.norm)
            rows += [Row(f"rec_{source}", reconstruction.numpy()), Row(f"idt_{target}", identity.numpy())]
        if truth is not None:
            rows.append(Row(f"real_{target}", truth.numpy()))
        return Translation(fake.numpy(), rows)
