"""U-GAT-IT (Kim et al., ICLR 2020, arXiv:1907.10830): unsupervised translation with attention and AdaLIN."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

import paddle
from paddle import Tensor

from config import UGATITConfig
from engine.schedule import linear_decay
from engine.trainer import Losses, Trainer, Translation, frozen
from layers import ILN, AdaLIN, clip_rho
from losses import absolute_error, domain_cross_entropy, least_squares
from networks import Discriminator, ResnetGenerator
from utils import Row


class UGATIT(Trainer):
    """genA2B and genB2A against a global and a local discriminator for each domain (section 2)."""

    config: UGATITConfig

    def __init__(self, config: UGATITConfig) -> None:
        super().__init__(config)
        sizes = (config.img_ch, config.ch, config.n_res, config.img_size, config.light)
        ablation = dict(decoder_norm=config.decoder_norm, cam=not config.no_generator_cam)
        self.genA2B, self.genB2A = (ResnetGenerator(*sizes, **ablation) for _ in range(2))
        cam = not config.no_discriminator_cam
        self.disGA, self.disGB = (Discriminator(config.img_ch, config.ch, config.n_dis + 1, cam) for _ in range(2))
        self.disLA, self.disLB = (Discriminator(config.img_ch, config.ch, config.n_dis - 1, cam) for _ in range(2))
        self.generators = (self.genA2B, self.genB2A)
        self.discriminators = (self.disGA, self.disGB, self.disLA, self.disLB)
        self.add_networks(
            genA2B=self.genA2B, genB2A=self.genB2A, disGA=self.disGA, disGB=self.disGB, disLA=self.disLA, disLB=self.disLB
        )
        self.add_adam("G", self.generators, beta1=0.5, beta2=0.999, weight_decay=config.weight_decay)
        self.add_adam("D", self.discriminators, beta1=0.5, beta2=0.999, weight_decay=config.weight_decay)

    def learning_rate(self, iteration: int) -> float:
        decay = linear_decay(iteration, self.config.iteration) if self.config.decay_flag else 1.0
        return self.config.lr * decay

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        """One iteration: the discriminators on today's fakes, then the generators (section 2.2).

        Each generator sees both real images in one pass, its source for the translation and its target for the identity.
        """
        real_A, real_B = batch["real_A"], batch["real_B"]
        (fake_A2B, fake_B2B), cam_A2B, cam_B2B = _split(self.genA2B, real_A, real_B)
        (fake_B2A, fake_A2A), cam_B2A, cam_A2A = _split(self.genB2A, real_B, real_A)

        losses = self._update_discriminators(real_A, real_B, fake_A2B.detach(), fake_B2A.detach())

        fake_A2B2A = self.genB2A(fake_A2B)[0]
        fake_B2A2B = self.genA2B(fake_B2A)[0]
        with frozen(*self.discriminators):
            for name, discriminator, fake in self._judged(fake_B2A, fake_A2B):
                logit, cam_logit, _ = discriminator(fake)
                losses[f"G_adv_{name}"] = least_squares(logit, is_real=True)
                if cam_logit is not None:
                    losses[f"G_cam_adv_{name}"] = least_squares(cam_logit, is_real=True)
        losses["G_cycle_A"] = absolute_error(fake_A2B2A, real_A)
        losses["G_cycle_B"] = absolute_error(fake_B2A2B, real_B)
        losses["G_identity_A"] = absolute_error(fake_A2A, real_A)
        losses["G_identity_B"] = absolute_error(fake_B2B, real_B)
        if not self.config.no_generator_cam:
            losses["G_cam_A"] = domain_cross_entropy(cam_B2A, True) + domain_cross_entropy(cam_A2A, False)
            losses["G_cam_B"] = domain_cross_entropy(cam_A2B, True) + domain_cross_entropy(cam_B2B, False)

        weights = {
            "G_adv": self.config.adv_weight,
            "G_cycle": self.config.cycle_weight,
            "G_identity": self.config.identity_weight,
            "G_cam": self.config.cam_weight,
            "G_cam_adv": self.config.adv_weight,
        }
        generator_terms = [(name, value) for name, value in losses.items() if name.startswith("G_")]
        losses["G_total"] = sum(weights[name.rsplit("_", 1)[0]] * value for name, value in generator_terms)
        losses["G_total"].backward()
        self.apply_gradients("G")
        clip_rho(*self.generators)
        return losses

    def _update_discriminators(self, real_A: Tensor, real_B: Tensor, fake_A2B: Tensor, fake_B2A: Tensor) -> Losses:
        """Real and fake in one pass of each discriminator; the fakes are detached."""
        losses: Losses = {}
        reals = {"A": real_A, "B": real_B}
        for name, discriminator, fake in self._judged(fake_B2A, fake_A2B):
            (real_logit, fake_logit), real_cam_logit, fake_cam_logit = _split(discriminator, reals[name[-1]], fake)
            losses[f"D_adv_{name}"] = least_squares(real_logit, True) + least_squares(fake_logit, False)
            if not self.config.no_discriminator_cam:
                losses[f"D_cam_{name}"] = least_squares(real_cam_logit, True) + least_squares(fake_cam_logit, False)
        losses["D_total"] = self.config.adv_weight * sum(losses.values())
        losses["D_total"].backward()
        self.apply_gradients("D")
        return losses

    def _judged(self, fake_B2A: Tensor, fake_A2B: Tensor) -> Tuple[Tuple[str, Discriminator, Tensor], ...]:
        """Each discriminator with its name in the losses and the fake it judges."""
        return (
            ("GA", self.disGA, fake_B2A),
            ("LA", self.disLA, fake_B2A),
            ("GB", self.disGB, fake_A2B),
            ("LB", self.disLB, fake_A2B),
        )

    def generate(self, direction: str, images: Tensor) -> Tensor:
        return (self.genA2B if direction == "A2B" else self.genB2A)(images)[0]

    def translate(self, direction: str, images: Tensor, truth: Optional[Tensor] = None) -> Translation:
        """Translation, identity and reconstruction, each below the heat map of its CAM, if any: the authors' seven rows."""
        source, target = direction.split("2")
        forward, back = self.generators if direction == "A2B" else self.generators[::-1]
        fake, _, fake_heatmap = forward(images)
        (identity, cycle), (identity_heatmap, cycle_heatmap) = _images_and_heatmaps(back, images, fake)
        there, same, returned = f"{source}2{target}", f"{source}2{source}", f"{source}2{target}2{source}"
        rows = [Row(f"real_{source}", images.numpy())]
        shown = ((same, identity, identity_heatmap), (there, fake, fake_heatmap), (returned, cycle, cycle_heatmap))
        for name, translated, heatmap in shown:
            if heatmap is not None:
                rows.append(Row(f"CAM {name}", heatmap.numpy(), True))
            rows.append(Row(name, translated.numpy()))
        return Translation(fake.numpy(), rows)

    def statistics(self) -> Dict[str, float]:
        """Mean, smallest and largest rho of each generator's AdaLIN and ILN layers, where it is learnt."""
        if self.config.decoder_norm != "adalin":
            return {}
        found = {}
        for name in ("genA2B", "genB2A"):
            for kind in (AdaLIN, ILN):
                layers = [layer for layer in self.networks[name].sublayers() if isinstance(layer, kind)]
                rho = paddle.concat([layer.rho.flatten() for layer in layers]).numpy()
                found[f"rho_{name}/{kind.__name__}_mean"] = float(rho.mean())
                found[f"rho_{name}/{kind.__name__}_min"] = float(rho.min())
                found[f"rho_{name}/{kind.__name__}_max"] = float(rho.max())
        return found


def _split(network, first: Tensor, second: Tensor) -> Tuple[Tuple[Tensor, Tensor], Optional[Tensor], Optional[Tensor]]:
    """One pass over two batches of equal size: ((output, output), CAM logit of the first, of the second)."""
    output, cam_logit, _ = network(paddle.concat([first, second]))
    return tuple(output.chunk(2)), *_halves(cam_logit)


def _images_and_heatmaps(generator: ResnetGenerator, first: Tensor, second: Tensor) -> Tuple:
    images, _, heatmaps = generator(paddle.concat([first, second]))
    return images.chunk(2), _halves(heatmaps)


def _halves(x: Optional[Tensor]) -> Tuple[Optional[Tensor], Optional[Tensor]]:
    """Both halves of a batch, or None and None of what networks without a CAM do not give."""
    return (None, None) if x is None else tuple(x.chunk(2))
