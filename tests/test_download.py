"""Downloads against a server that breaks off, changes its file, lies and refuses."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from datatools import download as download_module
from datatools.download import download
from errors import ConfigError, DownloadError
from tests.web_server import WebServer, answer, break_off, careless, raw, serve

CONTENT = bytes(range(256)) * 1000
OTHER = bytes(reversed(CONTENT))
CUT = 100_000
LATER = "Thu, 02 Jan 2020 00:00:00 GMT"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with WebServer(CONTENT) as server:
        yield server


def fails(server: WebServer, folder: Path, **options) -> str:
    """The message of a download that must fail without putting anything in place."""
    with pytest.raises(DownloadError) as caught:
        download(server.url, folder / "file.zip", **options)
    assert not (folder / "file.zip").exists()
    assert str(caught.value).isprintable()
    return str(caught.value)


def arrives(server: WebServer, folder: Path, content: bytes = CONTENT) -> bool:
    """Whether a download gives this file, and leaves nothing beside it."""
    assert download(server.url, folder / "file.zip") == hashlib.sha256(content).hexdigest()
    return (folder / "file.zip").read_bytes() == content and [path.name for path in folder.iterdir()] == ["file.zip"]


@pytest.mark.parametrize("content", [CONTENT, b""])
def test_a_file_arrives_whole_in_a_folder_that_is_made(content, server, tmp_path):
    server.content = content
    assert arrives(server, tmp_path / "图片" / "deep", content) and server.ranges == [None]


def test_an_interrupted_download_is_resumed(server, tmp_path):
    server.script = [break_off(CUT), break_off(70_000), answer(503)]
    assert "broke off); 100,000 bytes are kept, repeat the command to resume" in fails(server, tmp_path)
    assert (tmp_path / ".file.zip.part").read_bytes() == CONTENT[:CUT]
    assert "170,000 bytes are kept" in fails(server, tmp_path)
    assert "503" in fails(server, tmp_path) and (tmp_path / ".file.zip.part").exists()
    assert arrives(server, tmp_path)
    assert server.ranges == [None, "bytes=100000-", "bytes=170000-", "bytes=170000-"]
    assert server.requests[1]["If-Range"] == server.changed


def test_ctrl_c_keeps_what_has_arrived(server, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download_module, "BLOCK", CUT)
    with monkeypatch.context() as patched:
        patched.setattr(download_module.Progress, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(server.url, tmp_path / "file.zip")
    assert arrives(server, tmp_path) and server.ranges == [None, "bytes=100000-"]


def wrong_start(handler, server: WebServer) -> None:
    whole = len(server.content)
    handler.start(206, Content_Range=f"bytes 0-{whole - 1}/{whole}", Content_Length=whole, Last_Modified=LATER)
    handler.wfile.write(server.content)


# What a changed file, or a server that ignores parts of the request, may answer to the second request.
RESTARTS = {
    "If-Range answered with all of the new file": (serve, 2),
    "the rest of the new file": (careless, 3),
    "Range ignored": (answer(200, OTHER, Last_Modified=LATER), 2),
    "rest from another place": (wrong_start, 3),
    "no Content-Range": (answer(206, OTHER[CUT:]), 3),
    "range not satisfiable": (answer(416), 3),
}


@pytest.mark.parametrize("case", RESTARTS)
def test_two_versions_are_never_glued_together(case, server, tmp_path):
    server.script = [break_off(CUT)]
    fails(server, tmp_path)
    server.content, server.changed = OTHER, LATER
    behaviour, requests = RESTARTS[case]
    server.script = [behaviour]
    assert arrives(server, tmp_path, OTHER) and len(server.requests) == requests
    assert server.ranges[1] == "bytes=100000-"


@pytest.mark.parametrize("changed", [None, "yesterday"])
def test_without_a_time_the_download_begins_anew(changed, server, tmp_path):
    server.changed, server.script = changed, [break_off(CUT)]
    fails(server, tmp_path)
    server.content = OTHER
    assert arrives(server, tmp_path, OTHER)


def test_a_part_of_unknown_origin_is_not_resumed(server, tmp_path):
    (tmp_path / ".file.zip.part").write_bytes(b"something else")
    assert arrives(server, tmp_path)


def test_chunks_end_with_an_end(server, tmp_path):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    server.script = [raw(head), raw(head + b"0\r\n\r\n")]
    fails(server, tmp_path)
    assert arrives(server, tmp_path, b"hello")


@pytest.mark.parametrize("status", [401, 404, 410, 500, 204, 206])
def test_a_refusal_leaves_nothing(status, server, tmp_path):
    server.script = [answer(status)]
    assert f" {status}" in fails(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_nothing_is_waited_for_only_so_long(server, tmp_path):
    server.script = [lambda handler, server: time.sleep(1)]
    assert "timed out" in fails(server, tmp_path, timeout=0.05)


@pytest.mark.parametrize("garbage", [b"\x1b[31mgarbage\r\n\r\n", b"", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_not_http_is_one_printable_line(garbage, server, tmp_path):
    server.script = [raw(garbage)]
    fails(server, tmp_path)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "http://[bad/", "http://" + "a" * 70 + "/x", "/file.zip"])
def test_a_redirection_that_leads_nowhere(place, server, tmp_path):
    server.script = [answer(302, Location=place)] * 20
    fails(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_redirection_keeps_the_range(server, tmp_path):
    server.script = [answer(302, Location="/there"), break_off(CUT), answer(302, Location="/there")]
    fails(server, tmp_path)
    assert arrives(server, tmp_path) and server.ranges == [None, None, "bytes=100000-", "bytes=100000-"]


def test_a_file_that_is_there_is_not_downloaded(server, tmp_path):
    (tmp_path / "file.zip").write_bytes(OTHER)
    assert arrives(server, tmp_path, OTHER) and server.requests == []


def test_an_address_may_hold_any_letters_and_a_proxy_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    download("http://nowhere.invalid/动漫 a%20b?x=1&y=ü", tmp_path / "file.zip")
    assert server.paths == ["http://nowhere.invalid/%E5%8A%A8%E6%BC%AB%20a%20b?x=1&y=%C3%BC"]


@pytest.mark.parametrize("url", ["", "x", "/tmp/x.zip", "ftp://host/x", "file:///etc/passwd"])
def test_what_is_no_web_address_is_a_wrong_command(url, tmp_path):
    with pytest.raises(ConfigError, match="--url .*http:// or https://"):
        download(url, tmp_path / "file.zip")


@pytest.mark.parametrize("url", ["http://", "http://h:port/", "http://[", "http://127.0.0.1:9/x"])
def test_an_address_where_nobody_is(url, tmp_path):
    with pytest.raises(DownloadError, match="download failed .*check the address, the network"):
        download(url, tmp_path / "new" / "file.zip")
    assert list(tmp_path.iterdir()) == []
