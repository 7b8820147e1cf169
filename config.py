"""One frozen dataclass a method: the single source of every default, its help and its validity.

A field's metadata says how the command line shows it and what a later command may do with it.

group    the heading under which --help shows it
resume   "same": resuming a run with another value is refused; "free": it may change; "warn": it may change, with a warning
         (the learning-rate schedule changes); "command": it belongs to this command and is not saved with the run
test     "same": test and evaluate take the checkpoint's value and refuse another; "free": they take the command's
phases   the phases in which the flag may be given
bare     the value of the flag where none follows it
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Dict, List, Optional, Sequence, Tuple, Type, get_args, get_type_hints

from errors import ConfigError
from metrics.facts import FLAG_NAMES, METRICS

METHODS = ("ugatit", "cyclegan", "pix2pix")
# Those of a method's configuration, and those that have settings of their own (deploy/settings.py).
PHASES = ("train", "test", "evaluate", "check")
DEPLOY_PHASES = ("translate", "export", "serve")
AMP_TYPES = ("bf16", "fp16")
DEVICES = ("auto", "cpu", "gpu", "cuda")
GAN_MODES = ("lsgan", "vanilla", "wgangp")
NORMS = ("batch", "instance", "none")
INIT_TYPES = ("normal", "xavier", "kaiming", "orthogonal")
LR_POLICIES = ("linear", "step", "cosine")
UPSAMPLES = ("transpose", "resize")
DECODER_NORMS = ("adalin", "adain", "in", "ln", "gn")
PRESETS = ("demo",)
NETWORKS = "networks"
MOST_SIDE = 2**14  # of an image, in pixels
# A null character, and halves of characters but those that stand for bytes which are no text.
NOT_IN_NAMES = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
# Settings of networks whose arrays have the same names and shapes whatever the value.
SEEN_IN_NO_ARRAY = ("norm", "decoder_norm")
EVALUATION = "evaluation"
# Which generators translate: with --ema their averages; or as the optimizer left them.
AVERAGED, RAW = "averaged", "raw"
WEIGHTS_HELP = "generators of a run with --ema: averaged, or raw as the optimizer left them (none: averaged where there are any)"
TEST_PHASE = "test and evaluate phases"
MOST_READ_QUICKLY = 1000


def setting(
    default: Any,
    help: str,
    group: str,
    *,
    resume: str = "same",
    test: str = "same",
    phases: Sequence[str] = PHASES,
    choices: Optional[Sequence[str]] = None,
    bare: Optional[str] = None,
    at_least: Optional[float] = None,
    above: Optional[float] = None,
    at_most: float = 10**9,
) -> Any:
    """A dataclass field with what the command line and the validation need to know of it."""
    return field(
        default=default,
        metadata=dict(
            help=help,
            group=group,
            resume=resume,
            test=test,
            phases=phases,
            choices=choices,
            bare=bare,
            at_least=at_least,
            above=above,
            at_most=at_most,
        ),
    )


@dataclass(frozen=True)
class Config:
    """What every method has. Raises ConfigError where a value is not valid."""

    paired: ClassVar[bool] = False
    # What --preset NAME sets, beneath the flags that are typed beside it.
    presets: ClassVar[Dict[str, Dict[str, Any]]] = {}
    n_answers: ClassVar[int] = 1

    method: str = setting("ugatit", "which paper", "run", choices=METHODS)
    phase: str = setting(
        "train",
        f"what to do; {', '.join(DEPLOY_PHASES)} have flags of their own: --phase {DEPLOY_PHASES[0]} --help",
        "run",
        resume="command",
        choices=(*PHASES, *DEPLOY_PHASES),
    )
    dataset: str = setting("YOUR_DATASET_NAME", "name of the folder under --data_root", "run", test="free")
    data_root: str = setting("dataset", "folder that holds the data sets", "run", resume="free", test="free")
    result_dir: str = setting("results", "folder that holds the runs", "run", resume="command")
    preset: Optional[str] = setting(
        None,
        "a named set of small settings, listed below; flags typed beside it win",
        "run",
        resume="command",
        phases=("train", "check"),
        choices=PRESETS,
    )
    device: str = setting("auto", "auto takes a GPU where Paddle has one", "run", resume="free", test="free", choices=DEVICES)
    seed: int = setting(0, "seed of weights, data order, augmentation and noise", "run", test="free", at_least=0, at_most=2**31 - 1)
    resume: str = setting(
        "false",
        "go on with the run from its newest valid checkpoint; auto: where there is one, and else start",
        "run",
        resume="command",
        phases=("train",),
        choices=("true", "false", "auto"),
        bare="true",
    )
    accept_changed_data: bool = setting(
        False,
        "with --resume: go on although the training files have changed",
        "run",
        resume="command",
        phases=("train",),
    )
    init_from: Optional[str] = setting(
        None,
        "a checkpoint folder, or the folder of a run, with whose networks a new run starts",
        "run",
        phases=("train",),
    )
    checkpoint: Optional[str] = setting(
        None,
        "a checkpoint folder, or the folder of a run, instead of the run named by --dataset and --method",
        TEST_PHASE,
        resume="command",
        phases=("test", "evaluate"),
    )
    weights: Optional[str] = setting(
        None,
        WEIGHTS_HELP,
        TEST_PHASE,
        resume="command",
        phases=("test", "evaluate"),
        choices=(AVERAGED, RAW),
    )
    dry_run: bool = setting(
        False,
        "print the configuration, the networks and, for a training, an estimate of its memory, then exit",
        "run",
        resume="command",
        phases=("train", "test", "evaluate"),
    )
    json: bool = setting(False, "print the report as JSON", "run", resume="command", phases=("check",))
    quick: bool = setting(
        False,
        f"read at most {MOST_READ_QUICKLY} images of each folder, evenly spread, and list the others",
        "run",
        resume="command",
        phases=("check",),
    )
    debug: bool = setting(False, "show tracebacks", "run", resume="command")
    amp: Optional[str] = setting(
        None,
        "half precision. On a GPU convolutions and matrix products are computed in it; on a CPU bf16 alone, for the convolutions, "
        "where the processor has AVX512-BF16 or AMX-BF16. Test and evaluation do not take it over from the training",
        "run",
        test="free",
        choices=AMP_TYPES,
    )
    benchmark_flag: bool = setting(False, "let cuDNN search for its fastest kernels (GPU only)", "run")

    iteration: int = setting(1_000_000, "training iterations", "training", resume="warn", at_least=1)
    batch_size: int = setting(1, "images of each domain an iteration", "training", at_least=1)
    lr: float = setting(0.0001, "learning rate of Adam", "training", above=0, at_most=float("inf"))
    beta1: float = setting(0.5, "decay of Adam's first moment", "training", at_least=0, at_most=0.9999)
    beta2: float = setting(0.999, "decay of Adam's second moment", "training", at_least=0, at_most=0.999999)
    ema: float = setting(
        0.0,
        "decay of averaged generators, such as 0.999: kept beside the trained ones, they make the samples, tests and evaluations "
        "(0: off)",
        "training",
        at_least=0,
        at_most=0.999999,
    )
    recompute: bool = setting(
        False,
        "keep no maps of the generators' passes and compute them again for the gradients: less memory, more time",
        "training",
        resume="free",
        phases=("train",),
    )

    img_size: int = setting(256, "side of the square images, in pixels", NETWORKS, at_least=1, at_most=MOST_SIDE)
    img_ch: int = setting(3, "image channels: 3 colour, 1 grey", NETWORKS, at_least=1)
    ch: int = setting(64, "width: channels of the first layer of each network", NETWORKS, at_least=1)

    load_size: Optional[int] = setting(
        None,
        "side to which training images are resized before the crop (none: img_size + 30)",
        "data",
        at_least=1,
        at_most=MOST_SIDE,
    )
    download: bool = setting(False, "fetch the public data set of this name where it is missing", "data", resume="command")
    num_workers: int = setting(
        2, "threads that read images ahead; 0 reads in the loop", "data", resume="free", test="free", at_least=0
    )

    print_freq: int = setting(
        1000, "iterations between metrics and sample grids", "logs and checkpoints", resume="free", at_least=1
    )
    sample_count: int = setting(
        5, "columns of train and of test images in a sample grid", "logs and checkpoints", resume="free", at_least=1
    )
    save_freq: int = setting(
        100_000, "iterations between periodic checkpoints, of which --keep stay", "logs and checkpoints", resume="free", at_least=1
    )
    checkpoint_freq: int = setting(
        1000, "iterations between checkpoints; of these only the newest stays", "logs and checkpoints", resume="free", at_least=1
    )
    keep: int = setting(3, "periodic checkpoints kept", "logs and checkpoints", resume="free", at_least=1)

    eval_freq: int = setting(
        0,
        "iterations between evaluations of the test set in training; 0: none",
        EVALUATION,
        resume="free",
        phases=("train",),
        at_least=0,
    )
    keep_best: Optional[str] = setting(
        None,
        "METRIC or METRIC:A2B or METRIC:B2A: keep the best checkpoint by it (without a direction by the mean of both); "
        f"METRIC is one of {', '.join(METRICS)}",
        EVALUATION,
        resume="free",
        phases=("train",),
    )
    metrics: Optional[str] = setting(
        None,
        f"names out of {','.join(FLAG_NAMES)} with commas between (none: all that can be computed)",
        EVALUATION,
        resume="free",
        test="free",
    )
    kid_subsets: int = setting(100, "random subsets whose mean is the KID", EVALUATION, resume="free", test="free", at_least=1)
    kid_subset_size: int = setting(
        1000, "images in each, or all where there are fewer", EVALUATION, resume="free", test="free", at_least=2
    )
    kid_seed: int = setting(0, "seed of the subsets", EVALUATION, resume="free", test="free", at_least=0, at_most=2**32 - 1)
    inception_weights: Optional[str] = setting(
        None,
        "file with the weights for KID and FID, .safetensors or .pdparams (none: downloaded once)",
        EVALUATION,
        resume="free",
        test="free",
    )

    @property
    def directions(self) -> Tuple[str, ...]:
        """The directions that the method translates in."""
        return ("A2B", "B2A")

    @property
    def metric_names(self) -> Optional[List[str]]:
        """The names in --metrics; None for all that can be computed."""
        return None if self.metrics is None else [name.strip() for name in self.metrics.split(",")]

    @property
    def best(self) -> Tuple[str, Tuple[str, ...]]:
        """Metric and directions of --keep_best."""
        name, _, direction = (self.keep_best or "").partition(":")
        return name, (direction,) if direction else self.directions

    def __post_init__(self) -> None:
        check_values(self)
        if not self.dataset or "/" in self.dataset or "\\" in self.dataset or self.dataset in (".", ".."):
            raise ConfigError(f"--dataset {self.dataset!r}: give the name of a folder under --data_root")

    def with_length(self, iterations_per_epoch: int) -> Config:
        """The same with the number of iterations known."""
        return self

    def with_side(self, side: int) -> Config:
        """The same networks for images of another side. Raises ConfigError where they do not take these."""
        other = dataclasses.replace(self, img_size=side, load_size=None)
        other.check_networks()
        return other

    def check_networks(self) -> None:
        """Raise ConfigError where settings do not go together or the architecture cannot take the images.

        Apart from the constructor, because a command that goes on with a run gives only some of its settings.
        """
        if self.img_ch not in (1, 3):
            raise ConfigError(f"--img_ch {self.img_ch}: images have 3 channels (colour) or 1 (grey)")
        if self.load_size is not None and self.load_size < self.img_size:
            raise ConfigError(f"--load_size {self.load_size}: use {self.img_size} (--img_size) or more")
        self._check_evaluation()

    def _check_evaluation(self) -> None:
        unknown = [name for name in self.metric_names or () if name not in FLAG_NAMES]
        if unknown:
            raise ConfigError(f"--metrics {self.metrics}: {unknown[0]!r} is not one of {', '.join(FLAG_NAMES)}")
        if self.keep_best is None:
            return
        name, directions = self.best
        if name not in METRICS:
            raise ConfigError(f"--keep_best {self.keep_best}: {name!r} is not one of {', '.join(METRICS)}")
        if not set(directions) <= set(self.directions):
            raise ConfigError(
                f"--keep_best {self.keep_best}: this method translates {' and '.join(self.directions)}, not {directions[0]}"
            )
        if not self.eval_freq:
            raise ConfigError(f"--keep_best {self.keep_best} needs evaluations: add --eval_freq N, or say --keep_best none")
        needed = METRICS[name].name_in_flags
        if self.metric_names is not None and needed not in self.metric_names:
            raise ConfigError(f"--keep_best {self.keep_best} needs --metrics {self.metrics},{needed}")


# 64x64, cropped from the paper's proportion of 286 to 256.
SMALL_IMAGES = dict(img_size=64, load_size=72)
SHORT_RUN = dict(iteration=2500, print_freq=100, checkpoint_freq=100)


@dataclass(frozen=True)
class UGATITConfig(Config):
    """U-GAT-IT (arXiv:1907.10830), with the defaults of the authors' PyTorch code."""

    # Small networks, a high rate and a light CAM loss: what gets furthest in six minutes of two cores. The drawn faces are
    # aligned, so nothing is cropped. The checkpoints are small, so they are written often.
    presets: ClassVar[Dict[str, Dict[str, Any]]] = {
        "demo": dict(
            **{**SMALL_IMAGES, "load_size": 64},
            light=True,
            ch=16,
            n_res=2,
            n_dis=4,
            lr=0.001,
            cam_weight=10.0,
            ema=0.995,
            **{**SHORT_RUN, "iteration": 900},
        )
    }

    weight_decay: float = setting(0.0001, "L2 weight decay of Adam", "training", at_least=0)
    decay_flag: bool = setting(True, "linear decay of the learning rate over the second half", "training")

    adv_weight: float = setting(1.0, "weight of the adversarial losses", "loss weights", at_least=0)
    cycle_weight: float = setting(10.0, "weight of the cycle losses", "loss weights", at_least=0)
    identity_weight: float = setting(10.0, "weight of the identity losses", "loss weights", at_least=0)
    cam_weight: float = setting(1000.0, "weight of the generators' CAM losses", "loss weights", at_least=0)

    light: bool = setting(False, "light version: pool the features before the MLP for gamma and beta", NETWORKS)
    n_res: int = setting(4, "residual blocks before and after the CAM", NETWORKS, at_least=1)
    decoder_norm: str = setting(
        "adalin",
        "normalization of the decoder; the others are the paper's ablations: AdaIN (rho fixed at 1), and instance, layer and group "
        "normalization without the MLP",
        NETWORKS,
        choices=DECODER_NORMS,
    )
    no_generator_cam: bool = setting(False, "generators without CAM and CAM loss (ablation)", NETWORKS)
    no_discriminator_cam: bool = setting(False, "discriminators without CAM (ablation)", NETWORKS)
    n_dis: int = setting(6, "depth of the discriminators: N+1 layers global, N-1 local", NETWORKS, at_most=12)

    def check_networks(self) -> None:
        super().check_networks()
        if self.n_dis < 4:
            raise ConfigError(f"--n_dis {self.n_dis}: the local discriminator needs at least 3 layers, so use --n_dis 4 or more")
        check_multiple_of_4(self.img_size)
        smallest = smallest_image(self.n_dis + 1)
        if self.img_size < smallest:
            proportionate = proportionate_depth(self.img_size)
            fits = self.img_size >= smallest_image(proportionate + 1)
            remedy = f"use --n_dis {proportionate}, or images of at least {smallest}"
            if not fits:
                remedy = f"use images of at least {smallest_image(5)}" + " with --n_dis 4" * (self.n_dis != 4)
            raise ConfigError(f"--img_size {self.img_size} is too small for --n_dis {self.n_dis}: {remedy}")


@dataclass(frozen=True)
class ImageGANConfig(Config):
    """What CycleGAN and Pix2Pix share, with the defaults of their authors' PyTorch code."""

    iteration: Optional[int] = setting(
        None, "training iterations; overrides --n_epochs and --n_epochs_decay", "training", resume="warn", at_least=1
    )
    n_epochs: int = setting(100, "epochs at the full learning rate", "training", at_least=0)
    n_epochs_decay: int = setting(100, "epochs in which it falls", "training", at_least=0)
    lr: float = setting(0.0002, "learning rate of Adam", "training", above=0, at_most=float("inf"))
    lr_policy: str = setting(
        "linear", "how the rate falls: linear to 0, by 10 every 50 epochs, or cosine to 0", "training", choices=LR_POLICIES
    )
    gan_mode: str = setting(
        "lsgan", "least squares, cross entropy, or Wasserstein with gradient penalty", "loss weights", choices=GAN_MODES
    )
    lambda_gp: float = setting(10.0, "weight of the gradient penalty of --gan_mode wgangp", "loss weights", at_least=0)
    norm: str = setting("instance", "normalization", NETWORKS, choices=NORMS)
    n_layers_D: int = setting(
        3,
        "what a logit of the discriminator sees: 0 a pixel, 1 16x16, 3 70x70, 5 286x286 pixels",
        NETWORKS,
        at_least=0,
        at_most=10,
    )
    init_type: str = setting("normal", "initialisation of the weights", NETWORKS, choices=INIT_TYPES)
    init_gain: float = setting(0.02, "its standard deviation (normal) or gain", NETWORKS, above=0)

    def with_length(self, iterations_per_epoch: int) -> Config:
        if self.iteration is not None:
            return self
        return dataclasses.replace(self, iteration=(self.n_epochs + self.n_epochs_decay) * iterations_per_epoch)

    def check_networks(self) -> None:
        super().check_networks()
        if self.n_epochs + self.n_epochs_decay == 0:
            raise ConfigError("--n_epochs 0 --n_epochs_decay 0: train for at least one epoch")
        smallest = 3 * 2**self.n_layers_D if self.n_layers_D else 1
        if self.img_size < smallest:
            raise ConfigError(
                f"--img_size {self.img_size} is too small for --n_layers_D {self.n_layers_D}: "
                f"use images of at least {smallest}, or a smaller --n_layers_D"
            )


@dataclass(frozen=True)
class CycleGANConfig(ImageGANConfig):
    """CycleGAN (arXiv:1703.10593), with the defaults of the authors' PyTorch code."""

    presets: ClassVar[Dict[str, Dict[str, Any]]] = {
        "demo": dict(**SMALL_IMAGES, ch=16, n_blocks=4, upsample="resize", n_layers_D=2, lr=0.0005, **SHORT_RUN)
    }

    method: str = setting("cyclegan", "which paper", "run", choices=METHODS)
    lambda_A: float = setting(10.0, "weight of the cycle loss A to B to A", "loss weights", at_least=0)
    lambda_B: float = setting(10.0, "weight of the cycle loss B to A to B", "loss weights", at_least=0)
    lambda_identity: float = setting(0.5, "weight of the identity losses, times lambda_A and lambda_B", "loss weights", at_least=0)
    pool_size: int = setting(50, "earlier fakes kept to train each discriminator; 0 keeps none", "training", at_least=0)
    n_blocks: Optional[int] = setting(None, "residual blocks (none: 9 from 256x256 on, else 6)", NETWORKS, at_least=1)
    upsample: str = setting("transpose", "transposed convolution, or resize and convolve", NETWORKS, choices=UPSAMPLES)

    def with_side(self, side: int) -> Config:
        return dataclasses.replace(super().with_side(side), n_blocks=self.n_blocks or default_blocks(self.img_size))

    def check_networks(self) -> None:
        super().check_networks()
        check_multiple_of_4(self.img_size, smallest=8)


@dataclass(frozen=True)
class Pix2PixConfig(ImageGANConfig):
    """Pix2Pix (arXiv:1611.07004), with the defaults of the authors' PyTorch code."""

    paired: ClassVar[bool] = True
    # The batch is 1, and 70x70 patches would see the whole image at once.
    presets: ClassVar[Dict[str, Dict[str, Any]]] = {
        "demo": dict(
            **SMALL_IMAGES,
            ch=32,
            norm="instance",
            dropout=False,
            n_layers_D=1,
            lr=0.0005,
            **{**SHORT_RUN, "iteration": 4000},
        )
    }

    method: str = setting("pix2pix", "which paper", "run", choices=METHODS)
    gan_mode: str = setting(
        "vanilla", "least squares, cross entropy, or Wasserstein with gradient penalty", "loss weights", choices=GAN_MODES
    )
    lambda_L1: float = setting(100.0, "weight of the reconstruction loss", "loss weights", at_least=0)
    lambda_GAN: float = setting(
        1.0, "weight of the adversarial loss; 0 trains without (the paper's L1)", "loss weights", at_least=0
    )
    recon_loss: str = setting("l1", "reconstruction loss", "loss weights", choices=("l1", "l2", "none"))
    unconditional: bool = setting(False, "the discriminator does not see the input (the paper's GAN)", NETWORKS)
    norm: str = setting("batch", "normalization", NETWORKS, choices=NORMS)
    netG: str = setting("unet", "generator", NETWORKS, choices=("unet", "resnet"))
    n_blocks: Optional[int] = setting(
        None, "residual blocks of --netG resnet (none: 9 from 256x256 on, else 6)", NETWORKS, at_least=1
    )
    upsample: str = setting(
        "transpose", "of --netG resnet: transposed convolution, or resize and convolve", NETWORKS, choices=UPSAMPLES
    )
    no_skip: bool = setting(False, "the U-Net without its skip connections (the paper's encoder-decoder)", NETWORKS)
    dropout: bool = setting(True, "dropout in the generator, its only source of noise", NETWORKS)
    direction: str = setting("AtoB", "which domain is the input", NETWORKS, choices=("AtoB", "BtoA"))
    eval_mode: bool = setting(
        False,
        "no dropout, and running statistics instead of each image's own",
        TEST_PHASE,
        resume="command",
        phases=("test", "evaluate"),
    )
    n_answers: int = setting(1, "different translations of each image", TEST_PHASE, resume="command", phases=("test",), at_least=1)

    @property
    def directions(self) -> Tuple[str, ...]:
        return ("A2B",) if self.direction == "AtoB" else ("B2A",)

    def with_side(self, side: int) -> Config:
        if self.netG == "unet" and side != self.img_size and (side % 256 or self.img_size % 256):
            raise ConfigError(f"--img_size {side}: the depth of the U-Net follows from --img_size {self.img_size}")
        return dataclasses.replace(super().with_side(side), n_blocks=self.n_blocks or default_blocks(self.img_size))

    def check_networks(self) -> None:
        super().check_networks()
        check_multiple_of_4(self.img_size, smallest=8 if self.netG == "resnet" else 4)
        if not self.lambda_GAN and (self.recon_loss == "none" or not self.lambda_L1):
            raise ConfigError("--lambda_GAN 0 leaves nothing to train on without a reconstruction loss: use --recon_loss l1")
        if self.n_answers > 1 and (self.eval_mode or not self.dropout):
            raise ConfigError(f"--n_answers {self.n_answers} needs dropout: leave out --eval_mode and --dropout false")


def default_blocks(img_size: int) -> int:
    """Residual blocks of CycleGAN's generator (appendix 7.2): 9 from 256x256 on, else 6."""
    return 9 if img_size >= 256 else 6


def check_multiple_of_4(img_size: int, smallest: int = 8) -> None:
    """Raise ConfigError, naming a size that works."""
    if img_size % 4 or img_size < smallest:
        nearest = max(smallest, round(img_size / 4) * 4)
        raise ConfigError(f"--img_size {img_size}: the generator needs a multiple of 4 from {smallest} on, such as {nearest}")


CONFIGS: Dict[str, Type[Config]] = {"ugatit": UGATITConfig, "cyclegan": CycleGANConfig, "pix2pix": Pix2PixConfig}


def proportionate_depth(img_size: int) -> int:
    """U-GAT-IT's n_dis in the paper's proportion, 6 at 256x256, which leaves the same 6x6 map of logits."""
    return max(4, img_size.bit_length() - 3)


def smallest_image(n_layers: int) -> int:
    """Smallest image side that a discriminator of `n_layers` takes: its last reflect pad of 1 needs a map of at least 2."""
    return 3 * 2 ** (n_layers - 2)


def check_values(settings: Any) -> None:
    """Raise ConfigError where a field of this dataclass of `setting`s is outside its limits."""
    types = _types_of(type(settings))
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if type(value) not in types[item.name]:  # from the file of a run
            raise ConfigError(f"--{item.name} {repr(value)[:80]}: a value of another type is needed")
        _check_value(item, value)


@lru_cache(maxsize=None)
def _types_of(settings: Type[Any]) -> Dict[str, Tuple[type, ...]]:
    """The types that each field's values may have. A whole number may stand for a float."""
    hints = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(settings).items()}
    return {name: (*types, int) if float in types else types for name, types in hints.items()}


def _check_value(item: dataclasses.Field, value: Any) -> None:
    limits = item.metadata
    flag = f"--{item.name} {value}"
    if limits["choices"] and value is not None and value not in limits["choices"]:
        raise ConfigError(f"{flag}: choose one of {', '.join(limits['choices'])}")
    if isinstance(value, str) and NOT_IN_NAMES.search(value):
        raise ConfigError(f"--{item.name} {value[:80]!r}: it has characters that no name of a file can have")
    if isinstance(value, float) and value != value:
        raise ConfigError(f"{flag}: give a number")
    if limits["at_least"] is not None and value is not None and not limits["at_least"] <= value < float("inf"):
        raise ConfigError(f"{flag}: use {limits['at_least']} or more")
    if isinstance(value, (int, float)) and value > limits["at_most"]:
        raise ConfigError(f"{flag}: use {limits['at_most']} or less")
    if limits["above"] is not None and value is not None and not limits["above"] < value < float("inf"):
        raise ConfigError(f"{flag}: use a number above {limits['above']}")


# A run's saved configuration


def to_saved(config: Config) -> Dict[str, Any]:
    """What is saved with a run: every field but those that belong to the command."""
    return {item.name: getattr(config, item.name) for item in dataclasses.fields(config) if item.metadata["resume"] != "command"}


def from_saved(method: str, saved: Dict[str, Any]) -> Config:
    """A run's configuration from what is saved with it; settings that are younger than the run have their defaults.

    Raises:
        ConfigError: there is no such method, or a value is not valid.
    """
    if method not in CONFIGS:
        raise ConfigError(f"--checkpoint: it was made by --method {method[:80]!r}, which this version does not have")
    defaults = to_saved(CONFIGS[method]())
    return CONFIGS[method](**{name: saved.get(name, default) for name, default in defaults.items()})


def to_json(config: Config) -> str:
    """The saved configuration as readable JSON."""
    return json.dumps(to_saved(config), indent=2) + "\n"
