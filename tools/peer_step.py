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


def load_networks(folder: Path):
    """Import networks.py of the checkout under a name of its own."""
    spec = importlib.util.spec_from_file_location("peer_networks", folder / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class UGATITStep:
    """Networks, optimizers and step of UGATIT-pytorch on one random batch."""

    def __init__(self, options: argparse.Namespace) -> None:
        peer = load_networks(Path(options.peer))
        size, ch = options.img_size, options.ch
        sizes = dict(input_nc=3, output_nc=3, ngf=ch, n_blocks=options.n_res, img_size=size, light=options.light)
        self.genA2B, self.genB2A = peer.ResnetGenerator(**sizes), peer.ResnetGenerator(**sizes)
        self.disGA, self.disGB = (peer.Discriminator(3, ch, options.n_dis + 1) for _ in range(2))
        self.disLA, self.disLB = (peer.Discriminator(3, ch, options.n_dis - 1) for _ in range(2))
        self.L1_loss, self.MSE_loss, self.BCE_loss = nn.L1Loss(), nn.MSELoss(), nn.BCEWithLogitsLoss()
        adam = dict(lr=0.0001, betas=(0.5, 0.999), weight_decay=0.0001)
        self.G_optim = torch.optim.Adam(itertools.chain(self.genA2B.parameters(), self.genB2A.parameters()), **adam)
        discriminators = (self.disGA, self.disGB, self.disLA, self.disLB)
        self.D_optim = torch.optim.Adam(itertools.chain(*(d.parameters() for d in discriminators)), **adam)
        self.Rho_clipper = peer.RhoClipper(0, 1)
        shape = (options.batch_size, 3, size, size)
        self.real_A, self.real_B = torch.rand(shape) * 2 - 1, torch.rand(shape) * 2 - 1

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
        discriminator_loss = 0
        for discriminator, real, fake in (
            (self.disGA, real_A, fake_B2A),
            (self.disLA, real_A, fake_B2A),
            (self.disGB, real_B, fake_A2B),
            (self.disLB, real_B, fake_A2B),
        ):
            real_logit, real_cam_logit, _ = discriminator(real)
            fake_logit, fake_cam_logit, _ = discriminator(fake)
            discriminator_loss = discriminator_loss + self.real(real_logit) + self.fake(fake_logit)
            discriminator_loss = discriminator_loss + self.real(real_cam_logit) + self.fake(fake_cam_logit)
        discriminator_loss.backward()
        self.D_optim.step()

        # Update G
        self.G_optim.zero_grad()
        fake_A2B, fake_A2B_cam_logit, _ = self.genA2B(real_A)
        fake_B2A, fake_B2A_cam_logit, _ = self.genB2A(real_B)
        fake_A2B2A, _, _ = self.genB2A(fake_A2B)
        fake_B2A2B, _, _ = self.genA2B(fake_B2A)
        fake_A2A, fake_A2A_cam_logit, _ = self.genB2A(real_A)
        fake_B2B, fake_B2B_cam_logit, _ = self.genA2B(real_B)
        generator_loss = 10 * (self.L1_loss(fake_A2B2A, real_A) + self.L1_loss(fake_B2A2B, real_B))
        generator_loss = generator_loss + 10 * (self.L1_loss(fake_A2A, real_A) + self.L1_loss(fake_B2B, real_B))
        for discriminator, fake in (
            (self.disGA, fake_B2A),
            (self.disLA, fake_B2A),
            (self.disGB, fake_A2B),
            (self.disLB, fake_A2B),
        ):
            fake_logit, fake_cam_logit, _ = discriminator(fake)
            generator_loss = generator_loss + self.real(fake_logit) + self.real(fake_cam_logit)
        for source, other in ((fake_B2A_cam_logit, fake_A2A_cam_logit), (fake_A2B_cam_logit, fake_B2B_cam_logit)):
            cam_loss = self.BCE_loss(source, torch.ones_like(source)) + self.BCE_loss(other, torch.zeros_like(other))
            generator_loss = generator_loss + 1000 * cam_loss
        generator_loss.backward()
        self.G_optim.step()
        self.genA2B.apply(self.Rho_clipper)
        self.genB2A.apply(self.Rho_clipper)


def load_image_gan_networks(folder: Path):
    """Import models/networks.py of pytorch-CycleGAN-and-pix2pix or contrastive-unpaired-translation, not models/__init__.py."""
    sys.path.insert(0, str(folder))
    package = types.ModuleType("models")
    package.__path__ = [str(folder / "models")]
    sys.modules["models"] = package
    return importlib.import_module("models.networks")


def define(function, *arguments, **options):
    """Call one of their functions or classes without antialiasing, which the older of the two repositories does not know."""
    known = inspect.signature(function).parameters
    plain = {name: True for name in ("no_antialias", "no_antialias_up") if name in known}
    return function(*arguments, **options, **plain)


def patch_gan(networks, channels: int, options: argparse.Namespace, norm: str) -> nn.Module:
    netD = "n_layers" if options.n_layers_D else "pixel"
    return define(networks.define_D, channels, options.ch, netD, n_layers_D=options.n_layers_D, norm=norm)


def set_requires_grad(networks, requires_grad: bool) -> None:
    for network in networks:
        for parameter in network.parameters():
            parameter.requires_grad = requires_grad


class CycleGANStep:
    """Networks, optimizers and step of cycle_gan_model.py, instance norm and least squares, with its pool of 50."""

    def __init__(self, options: argparse.Namespace) -> None:
        networks = load_image_gan_networks(Path(options.peer))
        resnet = dict(norm_layer=networks.get_norm_layer("instance"), n_blocks=options.n_blocks)
        self.netG_A, self.netG_B = (define(networks.ResnetGenerator, 3, 3, options.ch, **resnet) for _ in range(2))
        self.netD_A, self.netD_B = (patch_gan(networks, 3, options, "instance") for _ in range(2))
        self.L1, self.MSE = nn.L1Loss(), nn.MSELoss()
        adam = dict(lr=0.0002, betas=(0.5, 0.999))
        self.optimizer_G = torch.optim.Adam(itertools.chain(self.netG_A.parameters(), self.netG_B.parameters()), **adam)
        self.optimizer_D = torch.optim.Adam(itertools.chain(self.netD_A.parameters(), self.netD_B.parameters()), **adam)
        shape = (options.batch_size, 3, options.img_size, options.img_size)
        self.real_A, self.real_B = torch.rand(shape) * 2 - 1, torch.rand(shape) * 2 - 1
        self.pools = ([], [])

    def gan(self, prediction: torch.Tensor, is_real: bool) -> torch.Tensor:
        return self.MSE(prediction, torch.tensor(float(is_real)).expand_as(prediction))

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

    def __call__(self) -> None:
        real_A, real_B = self.real_A, self.real_B
        fake_B = self.netG_A(real_A)
        rec_A = self.netG_B(fake_B)
        fake_A = self.netG_B(real_B)
        rec_B = self.netG_A(fake_A)

        set_requires_grad([self.netD_A, self.netD_B], False)
        self.optimizer_G.zero_grad()
        loss = self.L1(self.netG_A(real_B), real_B) * 10 * 0.5 + self.L1(self.netG_B(real_A), real_A) * 10 * 0.5
        loss = loss + self.gan(self.netD_A(fake_B), True) + self.gan(self.netD_B(fake_A), True)
        loss = loss + self.L1(rec_A, real_A) * 10 + self.L1(rec_B, real_B) * 10
        loss.backward()
        self.optimizer_G.step()

        set_requires_grad([self.netD_A, self.netD_B], True)
        self.optimizer_D.zero_grad()
        for netD, real, fake, pool in (
            (self.netD_A, real_B, fake_B, self.pools[0]),
            (self.netD_B, real_A, fake_A, self.pools[1]),
        ):
            fake = self.pooled(pool, fake)
            ((self.gan(netD(real), True) + self.gan(netD(fake), False)) * 0.5).backward()
        self.optimizer_D.step()


class Pix2PixStep:
    """Networks, optimizers and step of pix2pix_model.py, batch norm and cross entropy."""

    def __init__(self, options: argparse.Namespace) -> None:
        networks = load_image_gan_networks(Path(options.peer))
        norm_layer = networks.get_norm_layer("batch")
        self.netG = networks.UnetGenerator(3, 3, options.n_downs, options.ch, norm_layer=norm_layer, use_dropout=True)
        self.netD = patch_gan(networks, 6, options, "batch")
        self.L1, self.BCE = nn.L1Loss(), nn.BCEWithLogitsLoss()
        adam = dict(lr=0.0002, betas=(0.5, 0.999))
        self.optimizer_G = torch.optim.Adam(self.netG.parameters(), **adam)
        self.optimizer_D = torch.optim.Adam(self.netD.parameters(), **adam)
        shape = (options.batch_size, 3, options.img_size, options.img_size)
        self.real_A, self.real_B = torch.rand(shape) * 2 - 1, torch.rand(shape) * 2 - 1

    def gan(self, prediction: torch.Tensor, is_real: bool) -> torch.Tensor:
        return self.BCE(prediction, torch.tensor(float(is_real)).expand_as(prediction))

    def __call__(self) -> None:
        real_A, real_B = self.real_A, self.real_B
        fake_B = self.netG(real_A)
        set_requires_grad([self.netD], True)
        self.optimizer_D.zero_grad()
        loss_fake = self.gan(self.netD(torch.cat((real_A, fake_B), 1).detach()), False)
        loss_real = self.gan(self.netD(torch.cat((real_A, real_B), 1)), True)
        ((loss_fake + loss_real) * 0.5).backward()
        self.optimizer_D.step()
        set_requires_grad([self.netD], False)
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
