"""--phase serve: the server of the page in the browser (deploy/page.py).

Neither the browser nor this process gets anything from another host. Uploads and results lie in a temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Tuple

from config import METHODS
from deploy.exported import is_exported
from deploy.page import Translations, build_page, example_pictures
from deploy.page_texts import LANGUAGES
from deploy.predictor import Predictor
from deploy.settings import ServeSettings
from engine.checkpoint import META, SHIPPED, has_checkpoints
from engine.signals import StopRequest
from errors import ConfigError, Interrupted
from utils import write_image

INSTALL = "pip install -r requirements-web.txt (Python 3.10 or later)"
MOST_BYTES = 50 * 2**20  # of an uploaded file
SECONDS_TO_FINISH = 1  # for requests that are under way when the server is stopped
# For the browser: only this server, and what the page itself holds.
POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
FONT = ("system-ui", "-apple-system", "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")
STYLE = """
.gradio-container { width: 100%; max-width: 1200px !important; margin: auto !important }
.image-frame img, .thumbnail-item img, .preview img { object-fit: contain !important }
#other-language { position: absolute; top: 12px; right: 0; width: auto }
"""


def serve(settings: ServeSettings) -> int:
    """Show the page until a signal ends it; returns the exit code.

    Raises:
        ConfigError, CheckpointError, WeightsError: a package, a model or the port is not there.
        Interrupted: the signal.
    """
    if not find_spec("gradio"):
        raise ConfigError(f"--phase serve needs the package gradio: {INSTALL}")
    with listen(settings.host, settings.port) as listening, tempfile.TemporaryDirectory(prefix="page-") as folder:
        uploads, examples = Path(folder, "uploads"), Path(folder, "examples")
        uploads.mkdir()
        # Gradio reads these when it is imported.
        os.environ.update(GRADIO_TEMP_DIR=str(uploads), GRADIO_ANALYTICS_ENABLED="False", GRADIO_RUN_HISTORY="False")
        translations = Translations(open_predictors(settings), settings.most_megapixels * 10**6)
        app = build_app(translations, uploads, examples)
        sys.addaudithook(refuse_connections)
        host, port = listening.getsockname()[:2]
        print(f"the page is at http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it)", flush=True)
        return run(app, listening, settings.debug)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError where the port is taken or the address is not this machine's."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]  # Python adds the address
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({reason}); name another port") from error


def open_predictors(settings: ServeSettings) -> List[Predictor]:
    """Every direction of every model that --checkpoint names, U-GAT-IT's first.

    Raises:
        ConfigError, CheckpointError, WeightsError: there is none, or it is not what it should be.
    """
    path = SHIPPED if settings.checkpoint is None else Path(settings.checkpoint)
    models = find_models(path)
    if settings.checkpoint is None and not models:
        raise ConfigError(f"there is no model in {path}: name one with --checkpoint, such as the folder of a run")
    load = partial(Predictor.load_all, engine=settings.engine, weights=settings.weights, device=settings.device)
    predictors = [predictor for model in models or [path] for predictor in load(model)]
    return sorted(predictors, key=lambda predictor: METHODS.index(predictor.facts.method))


def find_models(folder: Path) -> List[Path]:
    """The sub-folders and files of a folder that are models: checkpoints, runs and exported ones. None in one that is a model."""
    if not folder.is_dir() or _is_model(folder):
        return []
    return [path for path in sorted(folder.iterdir()) if _is_model(path)]


def _is_model(path: Path) -> bool:
    return (path / META).is_file() or has_checkpoints(path / "checkpoints") or is_exported(path)


def build_app(translations: Translations, uploads: Path, examples: Path) -> Any:
    """The web application: the page in each language, and the way to one of them.

    Args:
        uploads: Gradio's own folder (GRADIO_TEMP_DIR), in which it deletes old files.
        examples: an empty folder for pictures to try the models with.
    """
    import gradio as gr
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import RedirectResponse
    from starlette.routing import Route

    def choose_language(request: Any) -> RedirectResponse:
        wanted = request.headers.get("accept-language", "").strip().lower()
        return RedirectResponse("zh/" if wanted.startswith("zh") else "en/")

    app = Starlette(routes=[Route("/", choose_language)], middleware=[Middleware(SelfContained)])
    files = [
        [_written(examples / str(number) / f"{index}.png", picture) for index, picture in enumerate(pictures)]
        for number, pictures in enumerate(example_pictures(facts) for facts in translations.facts)
    ]
    theme = gr.themes.Soft(font=FONT, font_mono=("ui-monospace", "monospace"))
    for language in LANGUAGES:
        page = build_page(language, translations, files, uploads)
        # Only then does Gradio hold visitors to files that they have uploaded; its `launch` sets it, mounting does not.
        page.has_launched = True
        looks = dict(footer_links=[], theme=theme, css=STYLE)
        gr.mount_gradio_app(app, page, f"/{language}", max_file_size=MOST_BYTES, show_error=False, ssr_mode=False, **looks)
    return app


def _written(file: Path, picture: Any) -> Path:
    write_image(file, picture)
    return file


class SelfContained:
    """Forbids the browser every other host."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Dict[str, Any], receive: Any, send: Any) -> None:
        async def send_with_policy(message: Dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def refuse_connections(event: str, arguments: Tuple) -> None:
    """An audit hook that keeps this process from other hosts: a visitor may send Gradio an address instead of a file."""
    if event == "socket.getaddrinfo":
        raise OSError("the page asks no other host")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1"):
        raise OSError("the page connects to no other host")


def run(app: Any, listening: socket.socket, debug: bool) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP. Raises Interrupted."""
    import uvicorn

    with StopRequest() as stop:

        async def end_if_asked() -> None:
            server.should_exit = stop.exit_code is not None

        level = "info" if debug else "critical"
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level=level, timeout_graceful_shutdown=SECONDS_TO_FINISH, callback_notify=end_if_asked, timeout_notify=0
            )
        )
        server.capture_signals = contextlib.nullcontext  # `stop` does
        server.run(sockets=[listening])
    if stop.exit_code is not None:
        raise Interrupted("stopped", stop.exit_code)
    return 0 if server.started else 1
