"""Pix2Pix (Isola et al., CVPR 2017, arXiv:1611.07004): translation learned from pairs, by a conditional GAN and an L1 loss."""

from __future__ import annotations

from typing import Mapping, Optional

import paddle
from paddle import Tensor

from config import Pix2PixConfig, default_blocks
from engine.health import Watched
from engine.method import Losses, Method, Row, Translation, adam, frozen
from engine.schedule import by_epochs
from errors import ConfigError
from layers import BatchNorm2D, Dropout, init_weights
from losses import ADVERSARIAL, UNDECIDED, absolute_error, gradient_penalty, squared_error
from networks import CycleGANGenerator, PatchGAN, UnetGenerator, both_passes

RECONSTRUCTION = {"l1": absolute_error, "l2": squared_error}


class Pix2Pix(Method):
    """G against D, which judges pairs of an input and its translation (section 3).

    Args:
        config: sizes, loss weights, rates.
        training: False builds the generator alone, which is all that a translation needs.
    """

    config: Pix2PixConfig
    generator_names = {"A2B": "G", "B2A": "G"}

    def __init__(self, config: Pix2PixConfig, training: bool = True) -> None:
        super().__init__(config)
        if config.netG == "unet":
            n_downs = min(8, _halvings(config.img_size))
            self.G = UnetGenerator(config.img_ch, config.ch, n_downs, config.norm, config.dropout, not config.no_skip)
        else:
            n_blocks = config.n_blocks or default_blocks(config.img_size)
            self.G = CycleGANGenerator(config.img_ch, config.ch, n_blocks, config.norm, config.upsample, config.dropout)
        self.generators = self.named(G=self.G)
        self._keep_noise()
        if training:
            self._prepare_training()

    def _prepare_training(self) -> None:
        config = self.config
        judged = config.img_ch if config.unconditional else 2 * config.img_ch
        self.D = PatchGAN(judged, config.ch, config.n_layers_D, config.norm)
        self.discriminators = self.named(D=self.D)
        for network in self.networks.values():
            init_weights(network, config.init_type, config.init_gain)
        self.optimizers["G"] = adam(self.generators, config)
        self.optimizers["D"] = adam(self.discriminators, config)
        self.adversarial = ADVERSARIAL[config.gan_mode]

    def _keep_noise(self) -> None:
        """Dropout and the image's own statistics also at test time (section 3.4), unless --eval_mode."""
        config = self.config
        if config.n_answers > 1 and not any(isinstance(layer, Dropout) for layer in self.G.sublayers()):
            raise ConfigError(
                f"--n_answers {config.n_answers}: this U-Net has no dropout, it needs images whose side is a multiple of 64; "
                "train with --img_size 64, 128 or 256, or with --netG resnet"
            )
        for layer in self.G.sublayers():
            if isinstance(layer, Dropout):
                layer.active_in_evaluation = not config.eval_mode
            elif isinstance(layer, BatchNorm2D):
                layer.own_statistics_in_evaluation = not config.eval_mode

    def learning_rate(self, iteration: int) -> float:
        config = self.config
        return config.lr * by_epochs(config.lr_policy, iteration, config.iteration, config.n_epochs, config.n_epochs_decay)

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        """One iteration: the discriminator on the real and the translated pair, then the generator (section 3.3)."""
        names = ("real_A", "real_B") if self.config.direction == "AtoB" else ("real_B", "real_A")
        source, target = (batch[name] for name in names)
        fake = self.G(source)
        D_losses: Losses = {}
        if self.config.lambda_GAN > 0:
            D_losses = self.discriminator_losses(source, target, fake.detach())
            self.update("D", D_losses["D_total"])
        G_losses = self.generator_losses(source, target, fake)
        self.update("G", G_losses["G_total"])
        return {**D_losses, **G_losses}

    def discriminator_losses(self, source: Tensor, target: Tensor, fake: Tensor) -> Losses:
        """Equation 1 with the factor 1/2 of section 3.3; `fake` is detached from the generator."""
        real_pair, fake_pair = self._judged(source, target), self._judged(source, fake)
        fake_logit, real_logit = both_passes(self.D, fake_pair, real_pair, self.config.norm)
        losses = {"D_fake": self.adversarial(fake_logit, False), "D_real": self.adversarial(real_logit, True)}
        total = 0.5 * (losses["D_fake"] + losses["D_real"])
        if self.config.gan_mode == "wgangp":
            losses["D_penalty"] = self.config.lambda_gp * gradient_penalty(self.D, real_pair, fake_pair)
            total = total + losses["D_penalty"]
        return {**losses, "D_total": total}

    def generator_losses(self, source: Tensor, target: Tensor, fake: Tensor) -> Losses:
        """G* = arg min lambda_GAN L_cGAN(G, D) + lambda_L1 L_L1(G) (equation 4); every term is weighted."""
        losses: Losses = {}
        if self.config.lambda_GAN > 0:
            with frozen(self.discriminators):
                judged = self.D(self._judged(source, fake))
            losses["G_GAN"] = self.config.lambda_GAN * self.adversarial(judged, True)
        if self.config.recon_loss != "none":
            losses["G_L1"] = self.config.lambda_L1 * RECONSTRUCTION[self.config.recon_loss](fake, target)
        losses["G_total"] = sum(losses.values())
        return losses

    def _judged(self, source: Tensor, image: Tensor) -> Tensor:
        """What the discriminator sees."""
        return image if self.config.unconditional else paddle.concat([source, image], 1)

    def watched(self) -> Watched:
        """The discriminator, but for Wasserstein's critic, whose loss has no zero."""
        undecided = UNDECIDED.get(self.config.gan_mode)
        return Watched({"D": (["D_fake", "D_real"], 2 * undecided)} if undecided else {})

    def translate(self, direction: str, images: Tensor) -> Tensor:
        return self.G(images)

    def translate_with_rows(self, direction: str, images: Tensor, truth: Optional[Tensor] = None) -> Translation:
        """Input, output and, where it is known, the truth."""
        source, target = direction.split("2")
        fake = self.G(images).numpy()
        rows = [Row(f"real_{source}", images.numpy()), Row(f"fake_{target}", fake)]
        if truth is not None:
            rows.append(Row(f"real_{target}", truth.numpy()))
        return Translation(fake, rows)


def _halvings(size: int) -> int:
    """How often `size` can be halved: the power of two that divides it."""
    return (size & -size).bit_length() - 1
