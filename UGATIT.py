"""U-GAT-IT (Kim et al., ICLR 2020, arXiv:1907.10830): unsupervised translation with attention and AdaLIN."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional, Tuple

import paddle
from paddle import Tensor, nn

from config import UGATITConfig
from engine.health import Watched
from engine.method import Losses, Method, Row, Translation, adam, frozen
from engine.schedule import linear_decay
from layers import ILN, AdaLIN, clip_rho
from losses import UNDECIDED, absolute_error, domain_cross_entropy, least_squares
from networks import Discriminator, DiscriminatorOutput, GeneratorOutput, ResnetGenerator


class UGATIT(Method):
    """genA2B and genB2A against a global and a local discriminator for each domain (section 2).

    Args:
        config: sizes, loss weights, rates.
        training: False builds the generators alone, which is all that a translation needs.
    """

    config: UGATITConfig
    generator_names = {"A2B": "genA2B", "B2A": "genB2A"}

    def __init__(self, config: UGATITConfig, training: bool = True) -> None:
        super().__init__(config)
        sizes = (config.img_ch, config.ch, config.n_res, config.img_size, config.light)
        ablation = dict(decoder_norm=config.decoder_norm, cam=not config.no_generator_cam)
        self.genA2B, self.genB2A = (ResnetGenerator(*sizes, **ablation) for _ in range(2))
        self.generators = self.named(genA2B=self.genA2B, genB2A=self.genB2A)
        if training:
            self._prepare_training()

    def _prepare_training(self) -> None:
        config = self.config
        cam = not config.no_discriminator_cam
        self.disGA, self.disGB = (Discriminator(config.img_ch, config.ch, config.n_dis + 1, cam) for _ in range(2))
        self.disLA, self.disLB = (Discriminator(config.img_ch, config.ch, config.n_dis - 1, cam) for _ in range(2))
        self.discriminators = self.named(disGA=self.disGA, disGB=self.disGB, disLA=self.disLA, disLB=self.disLB)
        self.optimizers["G"] = adam(self.generators, config, config.weight_decay)
        self.optimizers["D"] = adam(self.discriminators, config, config.weight_decay)

    def learning_rate(self, iteration: int) -> float:
        decay = linear_decay(iteration, self.config.iteration) if self.config.decay_flag else 1.0
        return self.config.lr * decay

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        """One iteration: the discriminators on the generators' current translations, then the generators (section 2.2).

        Each generator sees both real images in one pass, its source for the translation and its target for the identity.
        """
        real_A, real_B = batch["real_A"], batch["real_B"]
        A2B, B2B = in_one_pass(self.genA2B, real_A, real_B)
        B2A, A2A = in_one_pass(self.genB2A, real_B, real_A)

        D_losses = self.discriminator_losses(real_A, real_B, A2B.image.detach(), B2A.image.detach())
        self.update("D", D_losses["D_total"])

        G_losses = self.generator_losses(real_A, real_B, Passes(A2B, B2A, A2A, B2B))
        self.update("G", G_losses["G_total"])
        clip_rho(self.genA2B, self.genB2A)
        return {**D_losses, **G_losses}

    def discriminator_losses(self, real_A: Tensor, real_B: Tensor, fake_A2B: Tensor, fake_B2A: Tensor) -> Losses:
        """Equation 2 for each discriminator, on its logit and on its CAM's; real and fake share one pass.

        Args:
            fake_A2B, fake_B2A: detached from the generators.
        """
        adv_weight = self.config.adv_weight
        judged = {
            "GA": in_one_pass(self.disGA, real_A, fake_B2A),
            "LA": in_one_pass(self.disLA, real_A, fake_B2A),
            "GB": in_one_pass(self.disGB, real_B, fake_A2B),
            "LB": in_one_pass(self.disLB, real_B, fake_A2B),
        }
        losses: Losses = {}
        for name, (real, fake) in judged.items():
            losses[f"D_adv_{name}"] = least_squares(real.logit, True) + least_squares(fake.logit, False)
            if real.cam_logit is not None:
                losses[f"D_cam_{name}"] = least_squares(real.cam_logit, True) + least_squares(fake.cam_logit, False)
        losses["D_total"] = adv_weight * sum(losses.values())
        return losses

    def generator_losses(self, real_A: Tensor, real_B: Tensor, passes: Passes) -> Losses:
        """The full objective of the generators (section 2.2, after equation 5)."""
        config = self.config
        A2B, B2A, A2A, B2B = passes
        losses: Losses = {}
        with frozen(self.discriminators):
            judged: Dict[str, DiscriminatorOutput] = {
                "GA": self.disGA(B2A.image),
                "LA": self.disLA(B2A.image),
                "GB": self.disGB(A2B.image),
                "LB": self.disLB(A2B.image),
            }
        for name, fake in judged.items():
            losses[f"G_adv_{name}"] = least_squares(fake.logit, True)
            if fake.cam_logit is not None:
                losses[f"G_cam_adv_{name}"] = least_squares(fake.cam_logit, True)
        adversarial = sum(losses.values())

        fake_A2B2A, fake_B2A2B = self.genB2A(A2B.image).image, self.genA2B(B2A.image).image
        losses["G_cycle_A"] = absolute_error(fake_A2B2A, real_A)
        losses["G_cycle_B"] = absolute_error(fake_B2A2B, real_B)
        losses["G_identity_A"] = absolute_error(A2A.image, real_A)
        losses["G_identity_B"] = absolute_error(B2B.image, real_B)
        cam = 0.0
        if not config.no_generator_cam:
            losses["G_cam_A"] = domain_cross_entropy(B2A.cam_logit, True) + domain_cross_entropy(A2A.cam_logit, False)
            losses["G_cam_B"] = domain_cross_entropy(A2B.cam_logit, True) + domain_cross_entropy(B2B.cam_logit, False)
            cam = losses["G_cam_A"] + losses["G_cam_B"]

        losses["G_total"] = (
            config.adv_weight * adversarial
            + config.cycle_weight * (losses["G_cycle_A"] + losses["G_cycle_B"])
            + config.identity_weight * (losses["G_identity_A"] + losses["G_identity_B"])
            + config.cam_weight * cam
        )
        return losses

    def translate(self, direction: str, images: Tensor) -> Tensor:
        return self.generator(direction)(images).image

    def translate_with_rows(self, direction: str, images: Tensor, truth: Optional[Tensor] = None) -> Translation:
        """Identity, translation and reconstruction, each below the heat map of its CAM, if any: the authors' seven rows.

        The truth, where it is known, is an eighth. Without a generator back there is the translation alone.
        """
        source, target = direction.split("2")
        translated, back = self.generator(direction)(images), self.generator(direction[::-1])
        shown = {direction: translated}
        if back is not None:
            identity, cycle = in_one_pass(back, images, translated.image)
            shown = {f"{source}2{source}": identity, direction: translated, f"{direction}2{source}": cycle}
        rows = [Row(f"real_{source}", images.numpy())]
        for name, output in shown.items():
            if output.heatmap is not None:
                rows.append(Row(f"CAM {name}", output.heatmap.numpy(), True))
            rows.append(Row(name, output.image.numpy()))
        if truth is not None:
            rows.append(Row(f"real_{target}", truth.numpy()))
        return Translation(translated.image.numpy(), rows)

    def statistics(self) -> Dict[str, float]:
        """Mean, smallest and largest rho of each generator's AdaLIN and ILN layers, where it is learnt."""
        if self.config.decoder_norm != "adalin":
            return {}
        found = {}
        for name, generator in self.generators.items():
            for kind in (AdaLIN, ILN):
                layers = [layer for layer in generator.sublayers() if isinstance(layer, kind)]
                rho = paddle.concat([layer.rho.flatten() for layer in layers]).numpy()
                found[f"rho_{name}/{kind.__name__}_mean"] = float(rho.mean())
                found[f"rho_{name}/{kind.__name__}_min"] = float(rho.min())
                found[f"rho_{name}/{kind.__name__}_max"] = float(rho.max())
        return found

    def watched(self) -> Watched:
        """Each discriminator's least squares; the cycle and identity losses; rho, where that of ILN may stay at 0, its start."""
        kinds = ("D_adv",) if self.config.no_discriminator_cam else ("D_adv", "D_cam")
        undecided = 2 * len(kinds) * UNDECIDED["lsgan"]  # each is the loss of real and that of fake
        bounds = {AdaLIN: (0, 1), ILN: (1,)}
        return Watched(
            {f"dis{name}": ([f"{kind}_{name}" for kind in kinds], undecided) for name in ("GA", "GB", "LA", "LB")},
            [("G_cycle_A", "G_cycle_B"), ("G_identity_A", "G_identity_B")],
            {f"rho_{name}/{kind.__name__}_mean": bounds[kind] for name in self.generators for kind in bounds},
        )


class Passes(NamedTuple):
    """The generators' passes over the real images: both translations, both identities."""

    A2B: GeneratorOutput
    B2A: GeneratorOutput
    A2A: GeneratorOutput
    B2B: GeneratorOutput


def in_one_pass(network: nn.Layer, first: Tensor, second: Tensor) -> Tuple[NamedTuple, NamedTuple]:
    """The network's outputs for two batches of equal size, computed together."""
    output = network(paddle.concat([first, second]))
    halves = [(None, None) if value is None else value.chunk(2) for value in output]
    return type(output)(*(half[0] for half in halves)), type(output)(*(half[1] for half in halves))
