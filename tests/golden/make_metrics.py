"""Write tests/golden/metrics.npz: what torch-fidelity makes of inputs that both sides draw from seeds.

pip install torch torchvision torch-fidelity      in an environment of its own; Paddle is not needed
python -m tests.golden.make_metrics

No published weights are involved: the network is compared with random ones, whose figures mean nothing but that both agree.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from utils import write_bytes

GOLDEN = Path(__file__).with_name("metrics.npz")
SIZES = ((96, 96), (180, 256), (400, 300))  # height, width
RESIZE_SAMPLE = slice(None, None, 23)
SETS = {"ample": (200, 180), "degenerate": (30, 20)}  # features of two sets, 64 dimensions
DIMENSIONS = 64
KID_SETTINGS = {"ample": (20, 50), "degenerate": (5, 20)}  # subsets, their size


def random_weights(shapes: Mapping[str, Sequence[int]]) -> Dict[str, np.ndarray]:
    """Weights of any network by Paddle's names, each from a seed of its own name, of a size that keeps activations near 1."""
    return {name: _random_array(name, tuple(shape)) for name, shape in shapes.items()}


def _random_array(name: str, shape: Tuple[int, ...]) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) == 4:
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith(("_variance", "weight")):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return values.astype(np.float32)


def drawn_images() -> List[np.ndarray]:
    """One (H, W, 3) uint8 image of each of `SIZES`: waves with noise."""
    rng = np.random.RandomState(1)
    images = []
    for height, width in SIZES:
        y, x = np.mgrid[:height, :width]
        angle, period = rng.uniform(0, 3, 3), rng.uniform(4, 40, 3)
        waves = np.sin((x[..., None] * np.cos(angle) + y[..., None] * np.sin(angle)) * 2 * np.pi / period)
        images.append(np.clip(128 + 90 * waves + 20 * rng.standard_normal(waves.shape), 0, 255).astype(np.uint8))
    return images


def drawn_features(name: str) -> Tuple[np.ndarray, np.ndarray]:
    """Two sets of float64 features that are not negative, correlated, and of different means, like Inception's."""
    rng = np.random.RandomState(2)
    mix = rng.standard_normal((DIMENSIONS, DIMENSIONS)) / 8
    first, second = (np.abs(rng.standard_normal((count, DIMENSIONS)) @ mix) for count in SETS[name])
    return first, 0.1 + second * 1.2


def compute() -> Dict[str, np.ndarray]:
    """torch-fidelity's figures."""
    import torch
    import torch_fidelity
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    tensors = [torch.from_numpy(image.transpose(2, 0, 1)[None].copy()) for image in drawn_images()]
    network = random_torch_fidelity()
    golden = {"torch_fidelity": np.array(torch_fidelity.__version__)}
    golden["features"] = np.concatenate([network(x)[0].numpy() for x in tensors])
    resized = [interpolate_bilinear_2d_like_tensorflow1x(x.float(), (299, 299), align_corners=False) for x in tensors]
    golden["resized"] = torch.cat(resized).numpy()[:, :, RESIZE_SAMPLE, RESIZE_SAMPLE]
    for name in SETS:
        pair = [torch.from_numpy(features) for features in drawn_features(name)]
        subsets, size = KID_SETTINGS[name]
        kid = kid_features_to_metric(*pair, kid_subsets=subsets, kid_subset_size=size, verbose=False)
        fid = fid_statistics_to_metric(*[fid_features_to_statistics(features) for features in pair], verbose=False)
        golden[f"kid_{name}"] = np.array([kid["kernel_inception_distance_mean"], kid["kernel_inception_distance_std"]])
        golden[f"fid_{name}"] = np.array(fid["frechet_inception_distance"])
    return golden


def random_torch_fidelity():
    """torch-fidelity's network with `random_weights`, giving the 2048 features."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class RandomInception(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_):
            """Takes the place of the published weights, which the constructor loads at once."""
            shapes = {_paddle_name(name): value.shape for name, value in self.state_dict().items()}
            weights = random_weights(shapes)
            state = {name: torch.from_numpy(np.array(weights[_paddle_name(name)])) for name in self.state_dict()}
            return super().load_state_dict(state)

    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "nothing.pth"
        torch.save({}, nothing)
        return RandomInception("random", ["2048"], feature_extractor_weights_path=str(nothing))


def _paddle_name(name: str) -> str:
    return name.replace("running_mean", "_mean").replace("running_var", "_variance")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make_metrics", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDEN, help="the .npz file to write (default: tests/golden/metrics.npz)")
    options = parser.parse_args(arguments)
    try:
        golden = compute()
    except ImportError as error:
        print(f"error: {error}; pip install torch torchvision torch-fidelity", file=sys.stderr)
        return 1
    content = io.BytesIO()
    np.savez_compressed(content, **golden)
    write_bytes(options.out, content.getvalue())
    print(f"{options.out}: torch-fidelity {golden['torch_fidelity']}, {len(content.getvalue()):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
