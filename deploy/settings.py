"""The flags of --phase translate, --phase export and --phase serve."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple, Type, Union

from command_line import parse_fields
from config import AMP_TYPES, AVERAGED, CONFIGS, DEPLOY_PHASES, DEVICES, RAW, WEIGHTS_HELP, check_values, setting
from errors import ConfigError

DIRECTIONS = ("A2B", "B2A")
ENGINES = ("auto", "network", "paddle", "onnxruntime", "openvino")
FORMATS = ("png", "jpg", "webp")
EXPORT_FORMATS = ("onnx", "paddle", "both")
# --size: the model's own, the picture's own, or a number.
MODEL, KEEP = "model", "keep"
# The models that come with the project, a folder each.
MODEL_GROUP, PICTURES, MACHINE, FILES = "model", "pictures", "machine", "files"


@dataclass(frozen=True)
class TranslateSettings:
    """Translate pictures, folders of pictures or videos with a trained model."""

    phase: str = setting("translate", "what to do", "run", choices=DEPLOY_PHASES)
    checkpoint: Optional[str] = setting(
        None,
        "what translates: the folder of a run, a checkpoint folder, an exported file, or a folder of them (needed)",
        MODEL_GROUP,
    )
    direction: Optional[str] = setting(
        None, "which way (none: the only one that the model has, or A2B)", MODEL_GROUP, choices=DIRECTIONS
    )
    weights: Optional[str] = setting(
        None,
        WEIGHTS_HELP,
        MODEL_GROUP,
        choices=(AVERAGED, RAW),
    )
    input: Optional[str] = setting(
        None,
        "a picture, a video, a folder with all that is below it, or a quoted pattern such as 'photos/*.jpg' (needed)",
        PICTURES,
    )
    output: Optional[str] = setting(None, "folder for the translations, which keep names and sub-folders (needed)", PICTURES)
    size: str = setting(
        MODEL,
        f"{MODEL}: resized to the side that the model was trained on, as the test phase does; {KEEP}: each picture's own size and "
        "proportions; N: shorter side of N pixels, proportions kept",
        PICTURES,
    )
    format: str = setting("png", "of the translations", PICTURES, choices=FORMATS)
    quality: int = setting(95, "of jpg and webp", PICTURES, at_least=1, at_most=100)
    overwrite: bool = setting(False, "make translations anew that are there already", PICTURES)
    keep_grey: bool = setting(False, "translations of grey pictures are grey", PICTURES)
    face: bool = setting(
        False, "find the faces in each picture and translate each as a picture of its own, NAME_face1.png", PICTURES
    )
    heatmap: bool = setting(False, "also write where the CAM looks, over the picture, into OUTPUT/heatmap (U-GAT-IT)", PICTURES)
    side_by_side: bool = setting(False, "also write picture and translation side by side, into OUTPUT/side_by_side", PICTURES)
    engine: str = setting(
        "auto", "what computes; auto takes the fastest that is installed (docs/deploy.md)", MACHINE, choices=ENGINES
    )
    device: str = setting("auto", "auto takes a GPU where Paddle has one", MACHINE, choices=DEVICES)
    amp: Optional[str] = setting(None, "half precision, where the engine and the processor have it", MACHINE, choices=AMP_TYPES)
    debug: bool = setting(False, "show tracebacks", "run")

    def __post_init__(self) -> None:
        check_values(self)
        _check_needed(self, ("checkpoint", "input", "output"))
        parse_size(self.size)


@dataclass(frozen=True)
class ExportSettings:
    """Write a trained model as files that run without this project."""

    phase: str = setting("export", "what to do", "run", choices=DEPLOY_PHASES)
    checkpoint: Optional[str] = setting(None, "what to export: the folder of a run, or a checkpoint folder (needed)", MODEL_GROUP)
    direction: Optional[str] = setting(None, "which way (none: all that the model has)", MODEL_GROUP, choices=DIRECTIONS)
    weights: Optional[str] = setting(
        None,
        WEIGHTS_HELP,
        MODEL_GROUP,
        choices=(AVERAGED, RAW),
    )
    output: Optional[str] = setting(None, "folder for the files, A2B.onnx and so on (needed)", FILES)
    format: str = setting("onnx", "onnx; paddle: for Paddle Inference; or both", FILES, choices=EXPORT_FORMATS)
    with_heatmap: bool = setting(False, "the heat map of the CAM is a second output (U-GAT-IT)", FILES)
    fp16: bool = setting(False, "ONNX with weights in half precision: half as large", FILES)
    overwrite: bool = setting(False, "replace files that are there already", FILES)
    debug: bool = setting(False, "show tracebacks", "run")

    def __post_init__(self) -> None:
        check_values(self)
        _check_needed(self, ("checkpoint", "output"))


@dataclass(frozen=True)
class ServeSettings:
    """Show a page in the browser that translates pictures with trained models."""

    phase: str = setting("serve", "what to do", "run", choices=DEPLOY_PHASES)
    checkpoint: Optional[str] = setting(
        None,
        "what translates: the folder of a run, a checkpoint folder, an exported file, or a folder with sub-folders of these "
        "(none: all in weights)",
        MODEL_GROUP,
    )
    weights: Optional[str] = setting(
        None,
        WEIGHTS_HELP,
        MODEL_GROUP,
        choices=(AVERAGED, RAW),
    )
    host: str = setting("127.0.0.1", "the address to listen on; 0.0.0.0 shows the page to the whole network", "page")
    port: int = setting(7860, "the port to listen on (0: any that is free)", "page", at_least=0, at_most=65535)
    most_megapixels: int = setting(12, "of a picture that is translated at its own size", "page", at_least=1, at_most=67)
    engine: str = setting(
        "auto", "what computes; auto takes the fastest that is installed (docs/deploy.md)", MACHINE, choices=ENGINES
    )
    device: str = setting("auto", "auto takes a GPU where Paddle has one", MACHINE, choices=DEVICES)
    debug: bool = setting(False, "show tracebacks, and the server's log", "run")

    def __post_init__(self) -> None:
        check_values(self)


def parse_size(size: Union[str, int]) -> Union[str, int]:
    """model, keep, or the pixels of the shorter side. Raises ConfigError for anything else."""
    text = str(size)
    if text in (MODEL, KEEP):
        return text
    if not (text.isascii() and text.isdigit() and int(text[:6]) > 0 and len(text) < 6):
        raise ConfigError(f"--size {text[:20]}: use {MODEL}, {KEEP}, or the pixels of the shorter side, at most 99999")
    return int(text)


SETTINGS: Dict[str, Type[Any]] = {"translate": TranslateSettings, "export": ExportSettings, "serve": ServeSettings}
# What the usage line shows of each.
USAGE = {
    "translate": "--checkpoint PATH --input PATH --output DIR [flags]",
    "export": "--checkpoint PATH --output DIR [flags]",
    "serve": "[--checkpoint PATH] [flags]",
}
EXAMPLES = {
    "translate": (
        "--checkpoint results/selfie2anime/ugatit --input photos --output anime",
        "--checkpoint results/selfie2anime/ugatit --direction B2A --input 'portraits/*.png' --output photos --size keep",
        "--checkpoint exported/A2B.onnx --input film.mp4 --output anime",
    ),
    "export": ("--checkpoint results/selfie2anime/ugatit --output exported --format both",),
    "serve": ("", "--checkpoint results/selfie2anime/ugatit --port 8000"),
}


def parse_settings(phase: str, arguments: Sequence[str]) -> Any:
    """The settings of a command line of a phase in SETTINGS. Raises ConfigError."""
    usage = f"python main.py --phase {phase} {USAGE[phase]}"
    examples = "\n  ".join(["examples:", *(f"python main.py --phase {phase} {example}".rstrip() for example in EXAMPLES[phase])])
    typed = parse_fields(
        SETTINGS[phase], arguments, usage, examples, lambda flag: _explain_unknown(flag, phase), f"python main.py --phase {phase}"
    )
    return SETTINGS[phase](**typed)


def _explain_unknown(flag: str, phase: str) -> str:
    if not flag.startswith("-"):
        return f"unknown argument {flag}: put a pattern or a name with spaces in quotes"
    name = flag.split("=")[0]
    is_of_training = any(item.name == name.lstrip("-") for config in CONFIGS.values() for item in dataclasses.fields(config))
    return f"{name} is not a flag of --phase {phase}" + ": the model itself says what it is" * is_of_training


def _check_needed(settings: Any, names: Tuple[str, ...]) -> None:
    missing = [f"--{name}" for name in names if not getattr(settings, name)]
    if missing:
        raise ConfigError(
            f"--phase {settings.phase} needs {' and '.join(missing)} (--phase {settings.phase} --help shows examples)"
        )
