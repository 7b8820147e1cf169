"""The authors' training steps in PyTorch, for timing beside ours. Started by tools.benchmark --peer in a process of its own.

Of the authors' checkout only networks.py is loaded; the steps are those of their training code, written out. U-GAT-IT's is that of
`train()`: the fakes that the discriminators see are not detached, and the generators run again for their own update. CycleGAN's and
Pix2Pix's are those of `optimize_parameters()`. Reads a line for each step, answers with its seconds and the peak memory so far.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import itertools
import json
import random
import resource
import sys
import time
import types
from pathlib import Path

import torch
from torch import nn


def adam(lr: float, *networks: nn.Module, weight_decay: float = 0) -> torch.optim.Adam:
    parameters = itertools.chain(*(network.parameters() for network in networks))
    return torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay)


def random_batch(options: argparse.Namespace):
    """real_A and real_B (N, 3, H, W) in [-1, 1]."""
    shape = (options.batch_size, 3, options.img_size, options.img_size)
    return torch.rand(shape) * 2 - 1, torch.rand(shape) * 2 - 1


class UGATITStep:
    """Networks, optimizers and step of UGATIT-pytorch on one random batch."""

    def __init__(self, options: argparse.Namespace) -> None:
        # Under a name of its own: our networks.py is another one.
        specification = importlib.util.spec_from_file_location("peer_networks", Path(options.peer) / "networks.py")
        peer = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(peer)
        ch = options.ch
        sizes = dict(input_nc=3, output_nc=3, ngf=ch, n_blocks=options.n_res, img_size=options.img_size, light=options.light)
        self.genA2B, self.genB2A = peer.ResnetGenerator(**sizes), peer.ResnetGenerator(**sizes)
        self.disGA, self.disGB = (peer.Discriminator(3, ch, options.n_dis + 1) for _ in range(2))
        self.disLA, self.disLB = (peer.Discriminator(3, ch, options.n_dis - 1) for _ in range(2))
        self.L1_loss, self.MSE_loss, self.BCE_loss = nn.L1Loss(), nn.MSELoss(), nn.BCEWithLogitsLoss()
        self.G_optim = adam(0.0001, self.genA2B, self.genB2A, weight_decay=0.0001)
        self.D_optim = adam(0.0001, self.disGA, self.disGB, self.disLA, self.disLB, weight_decay=0.0001)
        self.Rho_clipper = peer.RhoClipper(0, 1)
        self.real_A, self.real_B = random_batch(options)

    def real(self, logit: torch.Tensor) -> torch.Tensor:
        return self.MSE_loss(logit, torch.ones_like(logit))

    def fake(self, logit: torch.Tensor) -> torch.Tensor:
        return self.MSE_loss(logit, torch.zeros_like(logit))

    def __call__(self) -> None:
        real_A, real_B = self.real_A, self.real_B
        # Update D
        self.D_optim.zero_grad()
        fake_A2B, _, _ = self.genA2B(real_A)
        fake_B2A, _, _ = self.genB2A(real_B)
        loss = 0
        for discriminators, real, fake in (
            ((self.disGA, self.disLA), real_A, fake_B2A),
            ((self.disGB, self.disLB), real_B, fake_A2B),
        ):
            for discriminator in discriminators:
                real_logit, real_cam_logit, _ = discriminator(real)
                fake_logit, fake_cam_logit, _ = discriminator(fake)
                loss = loss + self.real(real_logit) + self.fake(fake_logit)
                loss = loss + self.real(real_cam_logit) + self.fake(fake_cam_logit)
        loss.backward()
        self.D_optim.step()

        # Update G
        self.G_optim.zero_grad()
        fake_A2B, fake_A2B_cam_logit, _ = self.genA2B(real_A)
        fake_B2A, fake_B2A_cam_logit, _ = self.genB2A(real_B)
        fake_A2B2A, _, _ = self.genB2A(fake_A2B)
        fake_B2A2B, _, _ = self.genA2B(fake_B2A)
        fake_A2A, fake_A2A_cam_logit, _ = self.genB2A(real_A)
        fake_B2B, fake_B2B_cam_logit, _ = self.genA2B(real_B)
        loss = 10 * (self.L1_loss(fake_A2B2A, real_A) + self.L1_loss(fake_B2A2B, real_B))
        loss = loss + 10 * (self.L1_loss(fake_A2A, real_A) + self.L1_loss(fake_B2B, real_B))
        for discriminators, fake in (((self.disGA, self.disLA), fake_B2A), ((self.disGB, self.disLB), fake_A2B)):
            for discriminator in discriminators:
                fake_logit, fake_cam_logit, _ = discriminator(fake)
                loss = loss + self.real(fake_logit) + self.real(fake_cam_logit)
        for source, other in ((fake_B2A_cam_logit, fake_A2A_cam_logit), (fake_A2B_cam_logit, fake_B2B_cam_logit)):
            cam_loss = self.BCE_loss(source, torch.ones_like(source)) + self.BCE_loss(other, torch.zeros_like(other))
            loss = loss + 1000 * cam_loss
        loss.backward()
        self.G_optim.step()
        self.genA2B.apply(self.Rho_clipper)
        self.genB2A.apply(self.Rho_clipper)


class ImageGANStep:
    """What CycleGAN and Pix2Pix share: models/networks.py of one of their repositories, imported without models/__init__.py."""

    def __init__(self, options: argparse.Namespace, criterion: nn.Module) -> None:
        self.options, self.criterion, self.L1 = options, criterion, nn.L1Loss()
        self.real_A, self.real_B = random_batch(options)
        sys.path.insert(0, options.peer)
        package = sys.modules["models"] = types.ModuleType("models")
        package.__path__ = [str(Path(options.peer) / "models")]
        self.networks = importlib.import_module("models.networks")

    def define(self, function, *arguments, **settings) -> nn.Module:
        """Call one of their functions or classes without antialiasing, which the older of the two repositories does not know."""
        known = inspect.signature(function).parameters
        plain = {name: True for name in ("no_antialias", "no_antialias_up") if name in known}
        return function(*arguments, **settings, **plain)

    def patch_gan(self, channels: int, norm: str) -> nn.Module:
        depth = self.options.n_layers_D
        define_D = self.networks.define_D
        return self.define(define_D, channels, self.options.ch, "n_layers" if depth else "pixel", n_layers_D=depth, norm=norm)

    def gan(self, prediction: torch.Tensor, is_real: bool) -> torch.Tensor:
        return self.criterion(prediction, torch.tensor(float(is_real)).expand_as(prediction))


class CycleGANStep(ImageGANStep):
    """Networks, optimizers and step of cycle_gan_model.py, instance norm and least squares, with its pool of 50."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options, nn.MSELoss())
        resnet = dict(norm_layer=self.networks.get_norm_layer("instance"), n_blocks=options.n_blocks)
        self.netG_A, self.netG_B = (self.define(self.networks.ResnetGenerator, 3, 3, options.ch, **resnet) for _ in range(2))
        self.netD_A, self.netD_B = (self.patch_gan(3, "instance") for _ in range(2))
        self.optimizer_G, self.optimizer_D = adam(0.0002, self.netG_A, self.netG_B), adam(0.0002, self.netD_A, self.netD_B)
        self.pools = ([], [])

    def pooled(self, pool: list, fakes: torch.Tensor) -> torch.Tensor:
        given = []
        for image in fakes.detach().split(1):
            if len(pool) < 50:
                pool.append(image)
            elif random.uniform(0, 1) > 0.5:
                place = random.randint(0, 49)
                image, pool[place] = pool[place].clone(), image
            given.append(image)
        return torch.cat(given)

    def set_requires_grad(self, requires_grad: bool) -> None:
        for netD in (self.netD_A, self.netD_B):
            netD.requires_grad_(requires_grad)

    def __call__(self) -> None:
        real_A, real_B = self.real_A, self.real_B
        fake_B = self.netG_A(real_A)
        rec_A = self.netG_B(fake_B)
        fake_A = self.netG_B(real_B)
        rec_B = self.netG_A(fake_A)

        self.set_requires_grad(False)
        self.optimizer_G.zero_grad()
        loss = self.L1(self.netG_A(real_B), real_B) * 10 * 0.5 + self.L1(self.netG_B(real_A), real_A) * 10 * 0.5
        loss = loss + self.gan(self.netD_A(fake_B), True) + self.gan(self.netD_B(fake_A), True)
        loss = loss + self.L1(rec_A, real_A) * 10 + self.L1(rec_B, real_B) * 10
        loss.backward()
        self.optimizer_G.step()

        self.set_requires_grad(True)
        self.optimizer_D.zero_grad()
        for netD, real, fake, pool in zip((self.netD_A, self.netD_B), (real_B, real_A), (fake_B, fake_A), self.pools):
            fake = self.pooled(pool, fake)
            ((self.gan(netD(real), True) + self.gan(netD(fake), False)) * 0.5).backward()
        self.optimizer_D.step()


class Pix2PixStep(ImageGANStep):
    """Networks, optimizers and step of pix2pix_model.py, batch norm and cross entropy."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options, nn.BCEWithLogitsLoss())
        norm_layer = self.networks.get_norm_layer("batch")
        self.netG = self.networks.UnetGenerator(3, 3, options.n_downs, options.ch, norm_layer=norm_layer, use_dropout=True)
        self.netD = self.patch_gan(6, "batch")
        self.optimizer_G, self.optimizer_D = adam(0.0002, self.netG), adam(0.0002, self.netD)

    def __call__(self) -> None:
        real_A, real_B = self.real_A, self.real_B
        fake_B = self.netG(real_A)
        self.netD.requires_grad_(True)
        self.optimizer_D.zero_grad()
        loss_fake = self.gan(self.netD(torch.cat((real_A, fake_B), 1).detach()), False)
        loss_real = self.gan(self.netD(torch.cat((real_A, real_B), 1)), True)
        ((loss_fake + loss_real) * 0.5).backward()
        self.optimizer_D.step()
        self.netD.requires_grad_(False)
        self.optimizer_G.zero_grad()
        loss = self.gan(self.netD(torch.cat((real_A, fake_B), 1)), True) + self.L1(fake_B, real_B) * 100
        loss.backward()
        self.optimizer_G.step()


STEPS = {"ugatit": UGATITStep, "cyclegan": CycleGANStep, "pix2pix": Pix2PixStep}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=STEPS, required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--light", action="store_true")
    for name in ("img_size", "ch", "batch_size", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("n_res", "n_dis", "n_blocks", "n_layers_D", "n_downs"):
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Their networks say how they are initialised, on standard output, which is for the figures.
    answers, sys.stdout = sys.stdout, sys.stderr
    step = STEPS[options.method](options)
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]), file=answers, flush=True)


if __name__ == "__main__":
    main()
