"""The authors' U-GAT-IT step in PyTorch, for timing beside ours. Started by tools.benchmark --peer in a process of its own.

Only networks.py of the authors' checkout is loaded; the step is that of their `train()`, written out: the fakes that
the discriminators see are not detached, and the generators run again for their own update. Reads a line for each step, answers
with its seconds and the peak memory so far.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import resource
import sys
import time
from pathlib import Path

import torch
from torch import nn


def load_networks(folder: Path):
    """Import networks.py of the checkout under a name of its own."""
    spec = importlib.util.spec_from_file_location("peer_networks", folder / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PeerStep:
    """Their networks, optimizers and step on one random batch."""

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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--light", action="store_true")
    for name in ("img_size", "ch", "n_res", "n_dis", "batch_size", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    step = PeerStep(options)
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]), flush=True)


if __name__ == "__main__":
    main()
