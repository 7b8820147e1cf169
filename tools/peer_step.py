"""The authors' training steps, or translations, in PyTorch, for timing beside ours. Started by tools.benchmark --peer in a process
of its own.

Of the authors' checkout only networks.py and, for CycleGAN, image_pool.py are loaded; the steps are those of their training code,
written out. The argument is a JSON object of settings. Reads a line for each step, answers with its seconds and the peak memory so
far in KiB.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import resource
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Callable, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[], None]


def load_networks(folder: str) -> ModuleType:
    """Their networks.py without the __init__.py beside it, and under a name of its own: our networks.py is another one."""
    peer = sys.modules["peer"] = ModuleType("peer")
    peer.__path__ = [folder, str(Path(folder, "models")), str(Path(folder, "util"))]
    return importlib.import_module("peer.networks")


def adam(lr: float, *networks: nn.Module, weight_decay: float = 0) -> torch.optim.Adam:
    return torch.optim.Adam(nn.ModuleList(networks).parameters(), lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay)


def adversarial(criterion: Callable[[Tensor, Tensor], Tensor], logit: Tensor, is_real: bool) -> Tensor:
    return criterion(logit, torch.full_like(logit, float(is_real)))


least_squares = functools.partial(adversarial, F.mse_loss)
cross_entropy = functools.partial(adversarial, F.binary_cross_entropy_with_logits)


def ugatit_generator(options: SimpleNamespace, networks: ModuleType) -> nn.Module:
    return networks.ResnetGenerator(3, 3, options.ch, options.n_res, img_size=options.img_size, light=options.light)


def ugatit_step(options: SimpleNamespace, networks: ModuleType, real_A: Tensor, real_B: Tensor) -> Step:
    """`train()` of UGATIT-pytorch: the fakes that D sees are not detached, and the generators run again for their own update."""
    genA2B, genB2A = (ugatit_generator(options, networks) for _ in range(2))
    disGA, disGB, disLA, disLB = (networks.Discriminator(3, options.ch, options.n_dis + more) for more in (1, 1, -1, -1))
    G_optim = adam(0.0001, genA2B, genB2A, weight_decay=0.0001)
    D_optim = adam(0.0001, disGA, disGB, disLA, disLB, weight_decay=0.0001)
    disA, disB = (disGA, disLA), (disGB, disLB)
    Rho_clipper = networks.RhoClipper(0, 1)

    def judged(discriminators: Tuple[nn.Module, ...], image: Tensor, is_real: bool) -> Tensor:
        """Least squares of logits and CAM logits."""
        outputs = [discriminator(image) for discriminator in discriminators]
        return sum(least_squares(logit, is_real) + least_squares(cam_logit, is_real) for logit, cam_logit, _ in outputs)

    def step() -> None:
        D_optim.zero_grad()
        fake_A2B, _, _ = genA2B(real_A)
        fake_B2A, _, _ = genB2A(real_B)
        loss = judged(disA, real_A, True) + judged(disA, fake_B2A, False)
        loss = loss + judged(disB, real_B, True) + judged(disB, fake_A2B, False)
        loss.backward()
        D_optim.step()

        G_optim.zero_grad()
        fake_A2B, fake_A2B_cam_logit, _ = genA2B(real_A)
        fake_B2A, fake_B2A_cam_logit, _ = genB2A(real_B)
        fake_A2B2A, _, _ = genB2A(fake_A2B)
        fake_B2A2B, _, _ = genA2B(fake_B2A)
        fake_A2A, fake_A2A_cam_logit, _ = genB2A(real_A)
        fake_B2B, fake_B2B_cam_logit, _ = genA2B(real_B)
        loss = 10 * (F.l1_loss(fake_A2B2A, real_A) + F.l1_loss(fake_B2A2B, real_B))
        loss = loss + 10 * (F.l1_loss(fake_A2A, real_A) + F.l1_loss(fake_B2B, real_B))
        loss = loss + judged(disA, fake_B2A, True) + judged(disB, fake_A2B, True)
        loss = loss + 1000 * (cross_entropy(fake_B2A_cam_logit, True) + cross_entropy(fake_A2A_cam_logit, False))
        loss = loss + 1000 * (cross_entropy(fake_A2B_cam_logit, True) + cross_entropy(fake_B2B_cam_logit, False))
        loss.backward()
        G_optim.step()
        genA2B.apply(Rho_clipper)
        genB2A.apply(Rho_clipper)

    return step


def without_antialiasing(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """One of their functions or classes without antialiasing, which the older of the two repositories does not know."""
    known = inspect.signature(function).parameters
    return functools.partial(function, **{name: True for name in ("no_antialias", "no_antialias_up") if name in known})


def patch_gan(options: SimpleNamespace, networks: ModuleType, channels: int, norm: str) -> nn.Module:
    kind = "n_layers" if options.n_layers_D else "pixel"
    return without_antialiasing(networks.define_D)(channels, options.ch, kind, n_layers_D=options.n_layers_D, norm=norm)


def cyclegan_generator(options: SimpleNamespace, networks: ModuleType) -> nn.Module:
    generator, norm_layer = without_antialiasing(networks.ResnetGenerator), networks.get_norm_layer("instance")
    return generator(3, 3, options.ch, norm_layer=norm_layer, n_blocks=options.n_blocks)


def cyclegan_step(options: SimpleNamespace, networks: ModuleType, real_A: Tensor, real_B: Tensor) -> Step:
    """`optimize_parameters()` of cycle_gan_model.py, instance norm and least squares."""
    netG_A, netG_B = (cyclegan_generator(options, networks) for _ in range(2))
    netD_A, netD_B = (patch_gan(options, networks, 3, "instance") for _ in range(2))
    optimizer_G, optimizer_D = adam(0.0002, netG_A, netG_B), adam(0.0002, netD_A, netD_B)
    discriminators = nn.ModuleList([netD_A, netD_B])
    image_pool = importlib.import_module("peer.image_pool")
    fake_A_pool, fake_B_pool = image_pool.ImagePool(50), image_pool.ImagePool(50)

    def step() -> None:
        fake_B = netG_A(real_A)
        rec_A = netG_B(fake_B)
        fake_A = netG_B(real_B)
        rec_B = netG_A(fake_A)

        discriminators.requires_grad_(False)
        optimizer_G.zero_grad()
        loss = F.l1_loss(netG_A(real_B), real_B) * 10 * 0.5 + F.l1_loss(netG_B(real_A), real_A) * 10 * 0.5
        loss = loss + least_squares(netD_A(fake_B), True) + least_squares(netD_B(fake_A), True)
        loss = loss + F.l1_loss(rec_A, real_A) * 10 + F.l1_loss(rec_B, real_B) * 10
        loss.backward()
        optimizer_G.step()

        discriminators.requires_grad_(True)
        optimizer_D.zero_grad()
        for netD, real, fake, pool in ((netD_A, real_B, fake_B, fake_B_pool), (netD_B, real_A, fake_A, fake_A_pool)):
            fake = pool.query(fake)
            ((least_squares(netD(real), True) + least_squares(netD(fake), False)) * 0.5).backward()
        optimizer_D.step()

    return step


def pix2pix_generator(options: SimpleNamespace, networks: ModuleType) -> nn.Module:
    norm_layer = networks.get_norm_layer("batch")
    return networks.UnetGenerator(3, 3, options.n_downs, options.ch, norm_layer=norm_layer, use_dropout=True)


def pix2pix_step(options: SimpleNamespace, networks: ModuleType, real_A: Tensor, real_B: Tensor) -> Step:
    """`optimize_parameters()` of pix2pix_model.py, batch norm and cross entropy."""
    netG = pix2pix_generator(options, networks)
    netD = patch_gan(options, networks, 6, "batch")
    optimizer_G, optimizer_D = adam(0.0002, netG), adam(0.0002, netD)

    def step() -> None:
        fake_B = netG(real_A)
        netD.requires_grad_(True)
        optimizer_D.zero_grad()
        loss_fake = cross_entropy(netD(torch.cat((real_A, fake_B), 1).detach()), False)
        loss_real = cross_entropy(netD(torch.cat((real_A, real_B), 1)), True)
        ((loss_fake + loss_real) * 0.5).backward()
        optimizer_D.step()

        netD.requires_grad_(False)
        optimizer_G.zero_grad()
        loss = cross_entropy(netD(torch.cat((real_A, fake_B), 1)), True) + F.l1_loss(fake_B, real_B) * 100
        loss.backward()
        optimizer_G.step()

    return step


STEPS = {"ugatit": ugatit_step, "cyclegan": cyclegan_step, "pix2pix": pix2pix_step}
GENERATORS = {"ugatit": ugatit_generator, "cyclegan": cyclegan_generator, "pix2pix": pix2pix_generator}


def translation(options: SimpleNamespace, networks: ModuleType, real_A: Tensor, real_B: Tensor) -> Step:
    """One batch through the generator, as at test time."""
    generator = GENERATORS[options.method](options, networks).eval()
    return torch.no_grad()(lambda: generator(real_A))


def main() -> None:
    options = SimpleNamespace(**json.loads(sys.argv[1]))
    torch.set_num_threads(options.threads)
    # Their networks say how they are initialised, on standard output, which is for the figures.
    answers, sys.stdout = sys.stdout, sys.stderr
    # Images in [-1, 1].
    real_A, real_B = (torch.rand(options.batch_size, 3, options.img_size, options.img_size) * 2 - 1 for _ in range(2))
    build = translation if options.translate else STEPS[options.method]
    step = build(options, load_networks(options.peer), real_A, real_B)
    for _ in sys.stdin:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.amp == "bf16"):
            step()
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]), file=answers, flush=True)


if __name__ == "__main__":
    main()
