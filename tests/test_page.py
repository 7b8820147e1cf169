"""--phase serve: what the page does, its server as visitors use it, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import string
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import main
from deploy import page, serve
from deploy.exported import exported_directions
from deploy.page import Refused, Translations
from deploy.page_texts import LANGUAGES, TEXTS
from deploy.predictor import Predictor
from deploy.settings import ServeSettings
from tests.helpers import ROOT, command, environment, save_untrained
from tests.web_server import WebServer
from utils import read_image, write_image

MODELS = {
    "cyclegan": ("--method", "cyclegan", "--img_size", "32", "--ch", "2", "--n_blocks", "1", "--dataset", "portraits"),
    "pix2pix": ("--method", "pix2pix", "--img_size", "32", "--ch", "2", "--n_layers_D", "1", "--direction", "BtoA"),
    "ugatit": ("--dataset", "portraits"),
}
# The numbers of their first directions on the page.
UGATIT, CYCLEGAN, PIX2PIX = 0, 2, 4
SECONDS = 60


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a tiny untrained model of each method, as `weights` is to be."""
    folder = tmp_path_factory.mktemp("weights")
    for name, flags in MODELS.items():
        shutil.copytree(save_untrained(folder / ".runs" / name, *flags), folder / name)
    shutil.rmtree(folder / ".runs")
    (folder / "README.md").write_text("no model")
    return folder


@pytest.fixture(scope="module")
def translations(models):
    return Translations(serve.open_predictors(ServeSettings(checkpoint=str(models), engine="network")), 10_000)


def picture(seed: int = 0, height: int = 60, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def uploads(folder: Path) -> dict:
    """Files as visitors have them."""
    write_image(folder / "plain.png", picture())
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(np.ascontiguousarray(np.rot90(picture()))).save(folder / "turned.jpg", exif=exif, quality=95)
    (folder / "text.png").write_text("not a picture")
    PIL.Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    return {file.stem: file for file in folder.iterdir()}


# What the page does


def test_every_model_and_direction_is_there(translations):
    assert page.labels(translations.facts, "en") == [
        "photograph → anime (U-GAT-IT 24x24)",
        "anime → photograph (U-GAT-IT 24x24)",
        "photograph → anime (CycleGAN 32x32)",
        "anime → photograph (CycleGAN 32x32)",
        "B → YOUR_DATASET_NAME A (Pix2Pix 32x32)",
    ]
    assert page.labels(translations.facts, "zh")[0] == "照片 → 动漫 (U-GAT-IT 24x24)"


@pytest.mark.parametrize("model", [CYCLEGAN, PIX2PIX, UGATIT])
@pytest.mark.parametrize("size", ["model", "keep"])
def test_views_are_those_of_the_predictor(translations, tmp_path, model, size):
    files, predictor = uploads(tmp_path), translations.predictors[model]
    for name in ("plain", "turned"):
        original = read_image(files[name])
        assert original.shape == (60, 40, 3)
        views = translations.views(files[name], model, size)
        assert (views.translated == predictor(original, size)).all()
        side = predictor.facts.img_size
        assert views.translated.shape == views.original.shape == ((60, 40, 3) if size == "keep" else (side, side, 3))
        assert (views.heatmap is not None) == (model == UGATIT)
        assert model != UGATIT or views.heatmap.shape == views.translated.shape
    assert (translations.views(files["plain"], model, "keep").original == picture()).all()


def test_transparency_is_carried_over(translations, tmp_path):
    write_image(tmp_path / "a.png", np.dstack([picture(), np.full((60, 40), 7, np.uint8)]))
    assert (translations.views(tmp_path / "a.png", UGATIT, "keep").translated[:, :, 3] == 7).all()


def test_what_is_refused(translations, models, tmp_path, monkeypatch):
    files = uploads(tmp_path)
    with pytest.raises(Refused) as refused:
        translations.views(files["text"], UGATIT, "model")
    assert refused.value.key == "unreadable" and refused.value.values == {"name": "text.png"}
    write_image(tmp_path / "large.png", picture(height=101, width=100))
    assert translations.views(tmp_path / "large.png", UGATIT, "model").translated.shape == (24, 24, 3)
    monkeypatch.setattr(page, "read_picture", None)  # nothing is decoded
    for file, size in ((files["huge"], "model"), (tmp_path / "large.png", "keep")):
        with pytest.raises(Refused) as refused:
            translations.views(file, UGATIT, size)
        assert refused.value.key == "too_large"
    full = Predictor.load(save_untrained(tmp_path / "full", "--light", "false"), engine="network")
    with pytest.raises(Refused) as refused:
        Translations([full], 10_000).views(files["plain"], 0, "keep")
    assert refused.value.key == "one_size"


def test_texts_are_whole_in_both_languages():
    for key, texts in TEXTS.items():
        assert len(texts) == len(LANGUAGES) and all(texts), key
        wanted = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in texts]
        assert wanted[0] == wanted[1], key


def test_examples_are_drawn_or_taken_from_the_data_set(translations, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces = list(page.example_pictures(translations.facts[UGATIT]))
    assert [face.shape for face in faces] == [(256, 256, 3)] * page.EXAMPLES
    assert list(page.example_pictures(translations.facts[PIX2PIX])) == []
    for index in range(2):  # A and B side by side; it translates from B
        both = np.concatenate([np.zeros((256, 256, 3), np.uint8), picture(index, 256, 256)], axis=1)
        write_image(tmp_path / "dataset" / "YOUR_DATASET_NAME" / "test" / f"{index}.png", both)
    found = list(page.example_pictures(translations.facts[PIX2PIX]))
    assert len(found) == 2 and all((found[index] == picture(index, 256, 256)).all() for index in range(2))


def test_what_checkpoint_may_name(models, tmp_path):
    assert [path.name for path in serve.find_models(models)] == ["cyclegan", "pix2pix", "ugatit"]
    assert serve.find_models(models / "ugatit") == []
    exported, run = tmp_path / "all" / "exported", tmp_path / "all" / "run"
    for name in ("A2B.onnx", "B2A.json", "B2A.pdiparams"):
        exported.mkdir(parents=True, exist_ok=True)
        (exported / name).touch()
    shutil.copytree(models / "ugatit", run / "checkpoints" / "step_0000001")
    assert serve.find_models(tmp_path / "all") == [exported, run]
    assert serve.find_models(run) == [] and serve.find_models(exported) == []
    assert exported_directions(exported) == ["A2B", "B2A"]
    assert [len(Predictor.load_all(path, engine="network")) for path in (models / "pix2pix", run)] == [1, 2]


def test_no_other_host_is_reached():
    serve.refuse_connections("socket.connect", (None, ("127.0.0.1", 80)))
    serve.refuse_connections("socket.connect", (None, "/run/a.socket"))
    for event, arguments in (("socket.connect", (None, ("10.0.0.1", 80))), ("socket.getaddrinfo", ("example.org", 80, 0, 0, 0))):
        with pytest.raises(OSError):
            serve.refuse_connections(event, arguments)


# The command line


def serves(capsys, *flags: str) -> str:
    """The one line on stderr of a command that is refused with exit code 2."""
    assert main.main(["--phase", "serve", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_refusals_of_the_command_line(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert "pip install -r requirements-web.txt" in serves(capsys)
    monkeypatch.setattr(serve, "find_spec", lambda name: name)
    monkeypatch.setattr(serve, "SHIPPED", tmp_path / "weights")
    assert f"no model in {tmp_path / 'weights'}: name one with --checkpoint" in serves(capsys, "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"--port {port}: cannot listen there (Address already in use)" in serves(capsys, "--port", port)
    assert "--host 192.0.2.1" in serves(capsys, "--host", "192.0.2.1", "--port", "0")
    assert "--port" in serves(capsys, "--port", "70000")
    assert "--input is not a flag of --phase serve" in serves(capsys, "--input", "a")
    assert main.main(["--phase", "serve", "--checkpoint", str(tmp_path / "none"), "--port", "0"]) == 1
    assert "there is no such file or folder" in capsys.readouterr().err


# The server


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    """Address of the page with all models; it is ended by SIGTERM, and leaves nothing behind."""
    pytest.importorskip("gradio", reason="gradio is not installed", exc_type=ImportError)
    left = tmp_path_factory.mktemp("left")
    flags = ["--phase", "serve", "--checkpoint", str(models), "--port", "0", "--engine", "network", "--most_megapixels", "1"]
    process = subprocess.Popen(
        command(flags), cwd=ROOT, env=environment(TMPDIR=str(left)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert re.fullmatch(r"the page is at http://127\.0\.0\.1:\d+ \(Ctrl-C ends it\)\n", line), process.communicate()[1]
        yield line.split()[4]
        assert any(left.iterdir())
        process.terminate()
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err.splitlines()[-1]) == (128 + signal.SIGTERM, "", "error: stopped")
        assert not any(left.iterdir())
    finally:
        process.kill()
        process.wait()


class Visitor:
    """Uses the page over plain HTTP."""

    def __init__(self, address: str, language: str = "en") -> None:
        self.api = f"{address}/{language}/gradio_api"

    def upload(self, file: Path) -> str:
        """The file's path on the server."""
        head = f'--limit\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'.encode()
        return self._post("upload", head + file.read_bytes() + b"\r\n--limit--\r\n", "multipart/form-data; boundary=limit")[0]

    def translate(self, path: str, model: int, size: str) -> str:
        """The events with which the server answers."""
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, model, size]
        number = self._post("call/translate", json.dumps({"data": data}).encode(), "application/json")["event_id"]
        return urllib.request.urlopen(f"{self.api}/call/translate/{number}", timeout=SECONDS).read().decode()

    def result(self, file: Path, model: int, size: str, to: Path) -> np.ndarray:
        events = self.translate(self.upload(file), model, size)
        assert events.startswith("event: complete\n"), events
        result = json.loads(events.split("data: ")[1].splitlines()[0])[0]
        to.write_bytes(urllib.request.urlopen(result["url"]).read())
        return read_image(to)

    def _post(self, what: str, body: bytes, kind: str):
        return json.load(urllib.request.urlopen(urllib.request.Request(f"{self.api}/{what}", body, {"Content-Type": kind})))


def test_ten_visitors_at_once_get_each_their_own(server, translations, tmp_path):
    def visit(number: int) -> bool:
        file = tmp_path / f"{number}.png"
        write_image(file, picture(number))
        model = (CYCLEGAN, PIX2PIX, UGATIT)[number % 3]
        result = Visitor(server, LANGUAGES[number % 2]).result(file, model, "keep", tmp_path / f"{number}_result.png")
        return result.shape == (60, 40, 3) and (result == translations.predictors[model](picture(number), "keep")).all()

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(visit, range(10))) == [True] * 10


def test_only_uploads_are_read(server, tmp_path):
    """Neither another file of the server nor an address is, and the answer says nothing of either."""
    write_image(tmp_path / "private.png", picture())
    visitor = Visitor(server)
    with WebServer((tmp_path / "private.png").read_bytes()) as other:
        for path in (str(tmp_path / "private.png"), other.url):
            assert visitor.translate(path, UGATIT, "keep") == 'event: error\ndata: {"error": null}\n\n'
        assert other.requests == []
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{visitor.api}/file={tmp_path / 'private.png'}")


def test_uploads_have_a_limit(server, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(serve.MOST_BYTES + 1))
    with pytest.raises(urllib.error.HTTPError) as refused:
        Visitor(server).upload(tmp_path / "large.png")
    assert refused.value.code == 413


def test_language_and_policy(server):
    for wanted, language in (("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-US,en;q=0.5", "en"), ("fr", "en")):
        response = urllib.request.urlopen(urllib.request.Request(server, headers={"Accept-Language": wanted}))
        assert response.url == f"{server}/{language}/"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self' ")
        # The page's content is JSON inside its HTML.
        assert json.dumps(TEXTS["several"][LANGUAGES.index(language)])[1:-1] in json.dumps(response.read().decode())


# The browser


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not shutil.which("chromedriver") or not shutil.which("chromium"):
        pytest.skip("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-component-update")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_experimental_option("prefs", {"intl.accept_languages": "zh-CN,zh"})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    options.binary_location = shutil.which("chromium")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    # A phone. Windows themselves have a least width.
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(width=390, height=844, deviceScaleFactor=1, mobile=True))
    yield driver
    driver.quit()


def wait_for(condition):
    """The first true result of `condition` within a minute."""
    deadline = time.monotonic() + SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, "the page did not show it in a minute"
        time.sleep(0.1)
    return result


def test_uploads_in_a_browser(server, browser, translations, tmp_path):
    """A Chinese phone: the right results of the right size, clear messages, and no request to another host."""
    say = {key: texts[LANGUAGES.index("zh")] for key, texts in TEXTS.items()}
    files, seen = uploads(tmp_path), {}

    def find(selector: str):
        return browser.find_elements("css selector", selector)

    def choose(label: str) -> None:
        next(option for option in find("label") if option.text == label).click()

    def upload(name: str) -> None:
        find("#picture input[type=file]")[0].send_keys(str(files[name]))

    def result() -> np.ndarray:
        addresses = [image.get_attribute("src") for image in find("#result img")]
        if not addresses:
            return np.zeros((0, 0, 3))
        if addresses[0] not in seen:
            file = tmp_path / "results" / f"{len(seen)}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(urllib.request.urlopen(addresses[0]).read())
            seen[addresses[0]] = read_image(file)
        return seen[addresses[0]]

    browser.get(server)
    wait_for(lambda: find("#picture input[type=file]"))
    assert browser.title == say["title"] and browser.current_url == f"{server}/zh/"
    choose(say["keep"])
    for model, name in ((CYCLEGAN, "plain"), (PIX2PIX, "turned"), (UGATIT, "turned")):
        choose(page.labels(translations.facts, "zh")[model])
        upload(name)
        expected = translations.views(files[name], model, "keep").translated
        assert expected.shape == (60, 40, 3)
        wait_for(lambda expected=expected: np.array_equal(result(), expected))
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    for name, message in (
        ("text", say["unreadable"].format(name="text.png")),
        ("huge", say["too_large"].format(name="huge.png", width=10_000, height=10_000, most=1)),
    ):
        upload(name)
        wait_for(lambda message=message: any(message in toast.text for toast in find(".toast-body")))
        wait_for(lambda: not find("#result img"))
    upload("plain")
    wait_for(lambda: np.array_equal(result(), translations.views(files["plain"], UGATIT, "keep").translated))
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = {event["params"]["request"]["url"] for event in sent if event["method"] == "Network.requestWillBeSent"}
    asked = [address for address in addresses if not address.startswith(("data:", "blob:", "chrome:"))]
    assert len(asked) > 20 and all(address.startswith(f"{server}/") for address in asked), asked
