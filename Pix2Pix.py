"""Pix2Pix (Isola et al., CVPR 2017, arXiv:1611.07004): translation learned from pairs, by a conditional GAN and an L1 loss."""

from __future__ import annotations

from typing import Mapping, Optional

import paddle
from paddle import Tensor

from config import Pix2PixConfig, default_blocks
from engine.schedule import epoch_rate
from engine.trainer import Losses, Trainer, Translation, frozen
from errors import ConfigError
from layers import BatchNorm2D, Dropout, init_weights
from losses import ADVERSARIAL, absolute_error, gradient_penalty, squared_error
from networks import CycleGANGenerator, PatchGAN, UnetGenerator, both_passes
from utils import Row

RECONSTRUCTION = {"l1": absolute_error, "l2": squared_error}


class Pix2Pix(Trainer):
    """G against D, which judges pairs of an input and its translation (section 3)."""

    config: Pix2PixConfig

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__(config)
        if config.netG == "unet":
            n_downs = min(8, _halvings(config.img_size))
            self.G = UnetGenerator(config.img_ch, config.ch, n_downs, config.norm, config.dropout, not config.no_skip)
        else:
            n_blocks = config.n_blocks or default_blocks(config.img_size)
            self.G = CycleGANGenerator(config.img_ch, config.ch, n_blocks, config.norm, config.upsample, config.dropout)
        judged = config.img_ch if config.unconditional else 2 * config.img_ch
        self.D = PatchGAN(judged, config.ch, config.n_layers_D, config.norm)
        self.add_networks(G=self.G, D=self.D)
        for network in self.networks.values():
            init_weights(network, config.init_type, config.init_gain)
        if config.n_answers > 1 and not any(isinstance(layer, Dropout) for layer in self.G.sublayers()):
            raise ConfigError(
                f"--n_answers {config.n_answers}: this U-Net has no dropout, it needs images whose side is a multiple of 64; "
                "train with --img_size 64, 128 or 256, or with --netG resnet"
            )
        # Noise and the batch's own statistics also at test time (section 3.4), unless --eval_mode.
        for layer in self.G.sublayers():
            if isinstance(layer, Dropout):
                layer.active_in_evaluation = not config.eval_mode
            elif isinstance(layer, BatchNorm2D):
                layer.batch_statistics_in_evaluation = not config.eval_mode
        self.add_adam("G", [self.G], beta1=0.5, beta2=0.999)
        self.add_adam("D", [self.D], beta1=0.5, beta2=0.999)
        self.adversarial = ADVERSARIAL[config.gan_mode]

    def learning_rate(self, iteration: int) -> float:
        return epoch_rate(self.config, iteration)

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        """One iteration: the discriminator on the real and the translated pair, then the generator (section 3.3).

        With batch norm the discriminator's passes must stay apart: each batch has its own statistics.
        """
        names = ("real_A", "real_B") if self.config.direction == "AtoB" else ("real_B", "real_A")
        source, target = (batch[name] for name in names)
        fake = self.G(source)
        losses: Losses = {}
        if self.config.lambda_GAN > 0:
            self._update_discriminator(source, target, fake.detach(), losses)
            with frozen(self.D):
                judged = self.D(self._judged(source, fake))
            losses["G_GAN"] = self.adversarial(judged, True) * self.config.lambda_GAN
        if self.config.recon_loss != "none":
            losses["G_L1"] = RECONSTRUCTION[self.config.recon_loss](fake, target) * self.config.lambda_L1
        losses["G_total"] = sum(losses[name] for name in ("G_GAN", "G_L1") if name in losses)
        losses["G_total"].backward()
        self.apply_gradients("G")
        return losses

    def _update_discriminator(self, source: Tensor, target: Tensor, fake: Tensor, losses: Losses) -> None:
        real_pair, fake_pair = self._judged(source, target), self._judged(source, fake)
        fake_logit, real_logit = both_passes(self.D, fake_pair, real_pair, self.config.norm)
        losses["D_fake"] = self.adversarial(fake_logit, False)
        losses["D_real"] = self.adversarial(real_logit, True)
        losses["D_total"] = (losses["D_fake"] + losses["D_real"]) * 0.5
        if self.config.gan_mode == "wgangp":
            losses["D_penalty"] = gradient_penalty(self.D, real_pair, fake_pair)
            losses["D_total"] = losses["D_total"] + losses["D_penalty"]
        losses["D_total"].backward()
        self.apply_gradients("D")

    def _judged(self, source: Tensor, image: Tensor) -> Tensor:
        """What the discriminator sees."""
        return image if self.config.unconditional else paddle.concat([source, image], 1)

    def generate(self, direction: str, images: Tensor) -> Tensor:
        return self.G(images)

    def translate(self, direction: str, images: Tensor, truth: Optional[Tensor] = None) -> Translation:
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
