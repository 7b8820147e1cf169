"""The VisualDL page of a finished run in a real browser. Skipped where selenium or Chromium is not installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import main
from tests.helpers import TINY, draw_dataset, flags, run_folder

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
if not shutil.which("chromedriver") or not shutil.which("chromium"):
    pytest.skip("Chromium and its driver are not installed", allow_module_level=True)

SECONDS = 60


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Address of VisualDL serving the log of a tiny run."""
    tmp_path = tmp_path_factory.mktemp("page")
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "4", "--print_freq", "2")) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("visualdl")), "--logdir", str(run_folder(tmp_path) / "log")]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--disable-telemetry"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}/app"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{address}/api/runs").status == 200)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-component-update")
    options.add_argument("--window-size=1400,1600")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.binary_location = shutil.which("chromium")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def wait_for(condition):
    """The first true result of `condition` within a minute; its errors count as not yet."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            result = condition()
        except OSError:
            result = None
        if result or time.monotonic() > deadline:
            assert result, "the page did not show it in a minute"
            return result
        time.sleep(0.5)


def test_scalar_charts(page, browser):
    browser.get(f"{page}/scalar")

    def drawn_charts() -> int:
        """Canvases that hold more than one colour: titles and curves are painted into them."""
        return browser.execute_script("""
            return Array.from(document.querySelectorAll("canvas")).filter(canvas => {
                const pixels = canvas.width && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                return pixels && new Set(new Uint32Array(pixels.buffer)).size > 2;
            }).length""")

    wait_for(lambda: drawn_charts() >= 4)
    # The groups with the number of their charts: 22 loss terms and 2 totals, rate and speed, mean, min and max of rho.
    text = browser.find_element("tag name", "body").text
    for group, count in (("loss", 24), ("training", 2), ("rho_genA2B", 6), ("rho_genB2A", 6)):
        assert f"{group}\n{count}\n" in text


def test_sample_images(page, browser):
    browser.get(f"{page}/sample/image")
    wait_for(lambda: "A2B" in browser.page_source and "B2A" in browser.page_source)
    images = wait_for(lambda: [i for i in browser.find_elements("tag name", "img") if i.get_attribute("naturalWidth") != "0"])
    # 4 columns (2 train, 2 test) of 24 pixels and the labels' margin.
    assert any(int(image.get_attribute("naturalHeight")) == 7 * 24 for image in images)
