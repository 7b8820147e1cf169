"""The page in the browser: what it does with a picture, and how it looks in Gradio. deploy/serve.py is its server."""

from __future__ import annotations

import tempfile
import threading
import zipfile
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from config import CONFIGS
from dataset import open_test_part
from datatools.demo import NAME as DRAWN
from datatools.faces.domains import draw_anime, draw_photograph
from datatools.faces.identity import Identity
from deploy.facts import ModelFacts
from deploy.page_texts import LANGUAGES, METHOD_NAMES, text
from deploy.predictor import MOST_PIXELS, Predictor
from deploy.settings import KEEP, MODEL
from deploy.translate import as_transparent, heat_over
from errors import DataError
from utils import read_header, read_picture, resize, to_image, write_image

EXAMPLES, EXAMPLE_SIDE = 6, 256
MOST_AT_ONCE = 20  # pictures in a zip
MOST_WAITING = 50  # requests in the queue
# How often Gradio looks for old files, and how old they must be to be deleted.
SECONDS_BETWEEN, SECONDS_KEPT = 600, 3600
# As Gradio hands over an upload that it has not read itself: its path, and more.
Upload = Dict[str, Any]


class Refused(Exception):
    """What a visitor is told: a key of the page's texts, and the values in it."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


class Views(NamedTuple):
    """A picture upright (H, W, 3), its translation (H, W, 3 or 4), and the CAM's heat map over it (H, W, 3), all uint8."""

    original: np.ndarray
    translated: np.ndarray
    heatmap: Optional[np.ndarray]


class Translations:
    """What the models behind the page do with a picture, one at a time, whoever asks.

    Args:
        most_pixels: of a picture that is translated at its own size.
    """

    def __init__(self, predictors: Sequence[Predictor], most_pixels: int) -> None:
        self.predictors, self.most_pixels = predictors, most_pixels
        self.facts = [predictor.facts for predictor in predictors]
        self._lock = threading.Lock()

    def views(self, file: Path, model: int, size: str) -> Views:
        """Translate a file with predictor number `model` to `size`, model or keep. Raises Refused."""
        if size == KEEP and self.facts[model].side is not None:
            raise Refused("one_size")
        most_pixels = self.most_pixels if size == KEEP else MOST_PIXELS
        header = read_header(file)
        if header is not None and header.width * header.height > most_pixels:
            raise Refused("too_large", name=file.name, width=header.width, height=header.height, most=most_pixels // 10**6)
        try:
            picture = read_picture(file, most_pixels)
        except DataError as error:
            raise Refused("unreadable", name=file.name) from error
        with self._lock:
            translated, heatmap = self.predictors[model].translate(picture.image, KEEP if size == KEEP else MODEL)
        original = resize(picture.image, translated.shape[1], translated.shape[0])
        return Views(original, as_transparent(translated, picture), None if heatmap is None else heat_over(original, heatmap))


def example_pictures(facts: ModelFacts) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8 to try a model with: drawn faces, or the first test images of its data set where it is there."""
    if facts.dataset == DRAWN:
        yield from drawn_faces("AB".index(facts.direction[0]))
        return
    try:
        config = CONFIGS[facts.method](method=facts.method, dataset=facts.dataset, img_size=EXAMPLE_SIDE)
        part = open_test_part(config, facts.direction)
        yield from (to_image(part.read(index).image) for index in range(min(EXAMPLES, len(part.names) if part else 0)))
    except DataError:
        return


@lru_cache(maxsize=None)
def drawn_faces(domain: int) -> List[np.ndarray]:
    """Faces of the drawn set's test part: as photographs (0) or as anime portraits (1)."""
    draw = (draw_photograph, draw_anime)[domain]
    return [draw(Identity(0, index), EXAMPLE_SIDE) for index in range(EXAMPLES)]


def labels(facts: Sequence[ModelFacts], language: str) -> List[str]:
    """What the models are called."""
    found = []
    for fact in facts:
        is_drawn = fact.dataset == DRAWN
        domains = [text(language, domain) for domain in ("photograph", "anime")] if is_drawn else [f"{fact.dataset} A", "B"]
        source, target = domains if fact.direction == "A2B" else domains[::-1]
        found.append(f"{source} → {target} ({METHOD_NAMES[fact.method]} {fact.img_size}x{fact.img_size})")
    return found


def build_page(language: str, translations: Translations, examples: Sequence[Sequence[Path]], folder: Path) -> Any:
    """Gradio's Blocks in one language.

    Args:
        examples: pictures for each of the predictors.
        folder: Gradio's own (GRADIO_TEMP_DIR): results that are written there are deleted as uploads are.
    """
    import gradio as gr

    say, facts = partial(text, language), translations.facts

    def tell(refused: Refused) -> None:
        gr.Warning(say(refused.key, **refused.values))

    def write(name: str, view: np.ndarray) -> str:
        file = Path(tempfile.mkdtemp(dir=folder)) / f"{name}.png"
        write_image(file, view)
        return str(file)

    def translate_one(upload: Optional[Upload], model: int, size: str) -> Tuple:
        """The result, the heat map, and original and result to compare, as files."""
        if upload is None:
            return None, None, None
        file = Path(upload["path"])
        try:
            views = translations.views(file, model, size)
        except Refused as refused:
            tell(refused)
            return None, None, None
        name = f"{file.stem}_{facts[model].direction}"
        result = write(name, views.translated)
        heatmap = None if views.heatmap is None else write(f"{name}_cam", views.heatmap)
        return result, heatmap, (write(file.stem, views.original), result)

    def translate_several(
        uploads: Optional[Sequence[Upload]],
        model: int,
        size: str,
        progress: Any = gr.Progress(),  # noqa: B008 - Gradio looks for it here
    ) -> Tuple:
        """The results, and a zip of them; what cannot be translated is left out with a warning."""
        uploads = uploads or []
        if len(uploads) > MOST_AT_ONCE:
            tell(Refused("too_many", most=MOST_AT_ONCE))
            return None, None
        results = []
        for number, upload in enumerate(progress.tqdm(uploads), 1):
            file = Path(upload["path"])
            try:
                results.append(write(f"{number:02d}_{file.stem}", translations.views(file, model, size).translated))
            except Refused as refused:
                tell(refused)
        if not results:
            return None, None
        archive = Path(tempfile.mkdtemp(dir=folder)) / "translated.zip"
        with zipfile.ZipFile(archive, "w") as bundle:
            for result in results:
                bundle.write(result, Path(result).name)
        return results, str(archive)

    def adapt(model: int) -> Tuple:
        """The examples of another model, and whether it has a heat map."""
        return gr.Dataset(samples=samples(model)), gr.Image(visible=facts[model].has_heatmap)

    def samples(model: int) -> List[List[str]]:
        return [[str(file)] for file in examples[model]]

    # Gradio's own reading of an upload would decode it before any limit, and turn it its own way.
    queued = dict(preprocess=False, concurrency_id="translate", concurrency_limit=1)
    at_once = dict(concurrency_limit=None, api_name=False)
    picture_of = partial(gr.Image, type="filepath", image_mode=None, height="min(320px, 70vw)", min_width=280)
    shown = partial(picture_of, interactive=False, buttons=["download", "fullscreen"])
    with gr.Blocks(title=say("title"), analytics_enabled=False, delete_cache=(SECONDS_BETWEEN, SECONDS_KEPT)) as page:
        other = LANGUAGES[1 - LANGUAGES.index(language)]
        gr.HTML(f'<a href="../{other}/">{say("other_language")}</a>', elem_id="other-language")
        note = f"\n\n{say('drawn')}" * any(fact.dataset == DRAWN for fact in facts)
        gr.Markdown(f"# {say('title')}\n{say('help')}{note}")
        with gr.Row():
            choices = list(zip(labels(facts, language), range(len(facts))))
            model = gr.Radio(choices, value=0, label=say("models"), scale=2, min_width=320)
            size = gr.Radio([(say(size), size) for size in (MODEL, KEEP)], value=MODEL, label=say("size"), scale=1)
        inputs = [model, size]
        with gr.Tab(say("one")), gr.Row():
            with gr.Column(scale=1, min_width=280):
                picture = picture_of(label=say("picture"), sources=["upload", "clipboard", "webcam"], elem_id="picture")
                gallery = gr.Dataset(components=[picture], samples=samples(0), label=say("examples"))
            with gr.Column(scale=2, min_width=280):
                with gr.Row():
                    result = shown(label=say("result"), elem_id="result")
                    heatmap = shown(label=say("heatmap"), visible=facts[0].has_heatmap)
                compare = gr.ImageSlider(label=say("compare"), type="filepath", image_mode=None, interactive=False, max_height=340)
        with gr.Tab(say("several")):
            uploads = gr.File(label=say("pictures", most=MOST_AT_ONCE), file_count="multiple", file_types=["image"])
            button = gr.Button(say("translate"), variant="primary")
            results = gr.Gallery(label=say("results"), interactive=False, columns=4, object_fit="contain")
            archive = gr.File(label=say("zip"), interactive=False)
        gallery.click(lambda sample: sample[0], gallery, picture, **at_once)
        model.change(adapt, model, [gallery, heatmap], **at_once)
        gr.on(
            [picture.change, model.change, size.change],
            translate_one,
            [picture, *inputs],
            [result, heatmap, compare],
            api_name="translate",
            trigger_mode="always_last",
            **queued,
        )
        button.click(translate_several, [uploads, *inputs], [results, archive], api_name="translate_several", **queued)
    return page.queue(max_size=MOST_WAITING)
