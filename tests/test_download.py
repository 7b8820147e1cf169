"""Downloads against a server that breaks off, changes its file, lies and refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import time
from collections import namedtuple
from pathlib import Path

import pytest

from datatools.download import download
from errors import ConfigError, DownloadError
from tests.web_server import WebServer, answer, break_off, careless, raw, serve

CONTENT = bytes(range(256)) * 1000
OTHER = bytes(reversed(CONTENT))
SUM = hashlib.sha256(CONTENT).hexdigest()
CUT = 100_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with WebServer(CONTENT) as server:
        yield server


def get(server: WebServer, folder: Path, **options) -> str:
    return download(server.url, folder / "file.zip", pause=0.001, **{"timeout": 10, **options})


def fails(server: WebServer, folder: Path, **options) -> str:
    """The message of a download that must fail without putting anything in place."""
    with pytest.raises(DownloadError) as caught:
        get(server, folder, **options)
    assert not (folder / "file.zip").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def arrived(folder: Path, content: bytes = CONTENT) -> bool:
    """Whether the file is there, and nothing beside it."""
    return (folder / "file.zip").read_bytes() == content and [path.name for path in folder.iterdir()] == ["file.zip"]


def test_a_file_arrives_whole_in_a_folder_that_is_made(server, tmp_path):
    folder = tmp_path / "图片" / "deep"
    assert get(server, folder) == SUM
    assert arrived(folder) and server.ranges == [None]


def test_an_empty_file_arrives(server, tmp_path):
    server.content = b""
    get(server, tmp_path)
    assert arrived(tmp_path, b"")


def test_a_connection_that_breaks_off_is_gone_on_with(server, tmp_path):
    server.script = [break_off(CUT), break_off(70_000)]
    assert get(server, tmp_path, sha256=SUM.upper()) == SUM
    assert arrived(tmp_path)
    assert server.ranges == [None, "bytes=100000-", "bytes=170000-"]
    assert server.requests[1]["If-Range"] == '"one"'


def test_the_next_call_goes_on_where_the_last_gave_up(server, tmp_path):
    server.script = [break_off(CUT), *[answer(503)] * 3]
    message = fails(server, tmp_path, attempts=4)
    assert "503" in message and "100,000 of 256,000 bytes are kept, and the same command goes on from there" in message
    assert (tmp_path / ".file.zip.part").read_bytes() == CONTENT[:CUT]
    get(server, tmp_path)
    assert arrived(tmp_path) and server.ranges[-1] == "bytes=100000-"


def test_progress_renews_the_attempts(server, tmp_path):
    server.script = [break_off(20_000)] * 10
    get(server, tmp_path, attempts=2)
    assert arrived(tmp_path) and len(server.requests) == 11


def test_ctrl_c_keeps_what_has_arrived(server, tmp_path, monkeypatch):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    server.script = [break_off(CUT)]
    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path)
    get(server, tmp_path)
    assert arrived(tmp_path) and server.ranges == [None, "bytes=100000-"]


def test_what_had_arrived_whole_is_only_put_in_place(server, tmp_path):
    (tmp_path / ".file.zip.part").write_bytes(CONTENT)
    notes = {"url": server.url, "validator": '"one"', "length": len(CONTENT)}
    (tmp_path / ".file.zip.part.json").write_text(json.dumps(notes))
    assert get(server, tmp_path) == SUM
    assert arrived(tmp_path) and server.requests == []


def change(server: WebServer, content: bytes = OTHER, etag: str = '"two"') -> None:
    server.content, server.etag = content, etag


def wrong_start(handler, server: WebServer) -> None:
    whole = len(server.content)
    handler.start(206, Content_Range=f"bytes 0-{whole - 1}/{whole}", Content_Length=whole, ETag='"one"')
    handler.wfile.write(server.content)


# What a changed file, or a server that ignores parts of the request, may answer to the second request: what does the second
# answer, and the requests that follow it.
RESTARTS = {
    "If-Range answered with all of the new file": ([serve], [None, "bytes=100000-"]),
    "new file under another ETag": ([careless], [None, "bytes=100000-", None]),
    "Range ignored": ([answer(200, OTHER, ETag='"two"')], [None, "bytes=100000-"]),
    "rest from another place": ([wrong_start], [None, "bytes=100000-", None]),
    "no Content-Range": ([answer(206, OTHER[CUT:])], [None, "bytes=100000-", None]),
    "another length": ([answer(206, b"x", Content_Range="bytes 100000-100000/100001")], [None, "bytes=100000-", None]),
    "range not satisfiable": ([answer(416)], [None, "bytes=100000-", None]),
}


@pytest.mark.parametrize("case", RESTARTS)
def test_two_versions_are_never_glued_together(case, server, tmp_path):
    script, ranges = RESTARTS[case]
    server.script = [break_off(CUT)]
    fails(server, tmp_path, attempts=1)
    change(server)
    server.script = list(script)
    assert get(server, tmp_path) == hashlib.sha256(OTHER).hexdigest()
    assert arrived(tmp_path, OTHER) and server.ranges == ranges


def test_a_shorter_new_file_is_begun_anew(server, tmp_path):
    server.script = [break_off(CUT)]
    fails(server, tmp_path, attempts=1)
    change(server, b"short")
    server.script = [careless]  # 416
    get(server, tmp_path)
    assert arrived(tmp_path, b"short")


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_proof_of_sameness_the_download_begins_anew(etag, server, tmp_path):
    server.etag = etag
    server.script = [break_off(CUT)]
    assert "try again later" in fails(server, tmp_path, attempts=1)
    assert list(tmp_path.iterdir()) == []
    server.script = [break_off(CUT)]
    get(server, tmp_path)
    assert arrived(tmp_path) and server.ranges == [None, None, None]


def test_the_time_of_the_last_change_is_a_proof_too(server, tmp_path):
    server.etag, server.last_modified = 'W/"weak"', "Wed, 01 Jan 2020 00:00:00 GMT"
    server.script = [break_off(CUT)]
    get(server, tmp_path)
    assert arrived(tmp_path) and server.requests[1]["If-Range"] == server.last_modified


@pytest.mark.parametrize("notes", ["", "[]", "{}", '{"url": "http://other", "validator": "\\"one\\"", "length": 256000}'])
def test_what_came_from_elsewhere_or_nowhere_is_not_gone_on_with(notes, server, tmp_path):
    (tmp_path / ".file.zip.part").write_bytes(b"something else")
    (tmp_path / ".file.zip.part.json").write_text(notes)
    get(server, tmp_path)
    assert arrived(tmp_path) and server.ranges == [None]


def test_a_server_that_promises_more_than_it_has(server, tmp_path):
    server.script = [answer(200, CONTENT, length=300_000)] * 2
    message = fails(server, tmp_path, attempts=2)
    assert "the connection broke off" in message


def test_a_server_that_promises_less_than_it_sends(server, tmp_path):
    server.script = [answer(200, CONTENT, length=1000)]
    get(server, tmp_path)
    assert arrived(tmp_path, CONTENT[:1000])


def test_chunks_end_with_an_end(server, tmp_path):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    server.script = [raw(head), raw(head + b"3\r\n"), raw(head + b"0\r\n\r\n")]
    get(server, tmp_path)
    assert arrived(tmp_path, b"hello") and len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410, 204, 206])
def test_a_refusal_is_final_and_leaves_nothing(status, server, tmp_path):
    server.script = [answer(status)]
    assert f"answers {status}" in fails(server, tmp_path)
    assert len(server.requests) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(status, server, tmp_path):
    server.script = [answer(status), answer(status)]
    get(server, tmp_path)
    assert arrived(tmp_path) and len(server.requests) == 3


def test_a_server_that_says_nothing_is_waited_for_only_so_long(server, tmp_path):
    server.script = [lambda handler, server: time.sleep(1)] * 2
    assert "timed out" in fails(server, tmp_path, attempts=2, timeout=0.05)


@pytest.mark.parametrize("garbage", [b"\x1b[31mgarbage\r\n\r\n", b"", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_not_http_is_not_shown(garbage, server, tmp_path):
    server.script = [raw(garbage)] * 2
    assert fails(server, tmp_path, attempts=2).isprintable()


def test_nobody_there_is_said_at_once(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.zip"
        with pytest.raises(DownloadError, match="cannot be reached .Connection refused.*https_proxy"):
            download(url, tmp_path / "new" / "file.zip", pause=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_sum_names_both_and_leaves_nothing(server, tmp_path):
    message = fails(server, tmp_path, sha256="0" * 64)
    assert SUM in message and "0" * 64 in message
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_checked_and_never_touched(server, tmp_path):
    (tmp_path / "file.zip").write_bytes(OTHER)
    assert get(server, tmp_path) == hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(DownloadError, match="remove the file to download it again"):
        get(server, tmp_path, sha256=SUM)
    assert arrived(tmp_path, OTHER) and server.requests == []


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[bad/", "http://" + "a" * 70 + "/x", ""])
def test_a_redirection_leads_to_the_web_only(place, server, tmp_path):
    server.script = [answer(302, Location=place)] * 20
    message = fails(server, tmp_path, attempts=1)
    assert list(tmp_path.iterdir()) == [] and ("unknown url type: ftp" in message) == place.startswith("ftp")


def test_a_redirection_keeps_the_range(server, tmp_path):
    server.script = [answer(302, Location="/there"), break_off(CUT), answer(302, Location="/there")]
    get(server, tmp_path)
    assert arrived(tmp_path) and server.ranges == [None, None, "bytes=100000-", "bytes=100000-"]


def test_an_endless_redirection_ends(server, tmp_path):
    server.script = [answer(302, Location="/file.zip")] * 50
    assert "302" in fails(server, tmp_path)


def test_a_full_disk_is_known_beforehand(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000))
    assert "256,000 bytes are still to come, but the disk" in fails(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_may_hold_any_letters(server, tmp_path):
    download(server.url + "/动漫 a%20b?x=1&y=ü", tmp_path / "file.zip")
    assert arrived(tmp_path) and server.paths == ["/file.zip/%E5%8A%A8%E6%BC%AB%20a%20b?x=1&y=%C3%BC"]


def test_the_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    download("http://nowhere.invalid/x.zip", tmp_path / "file.zip")
    assert arrived(tmp_path) and server.paths == ["http://nowhere.invalid/x.zip"]


@pytest.mark.parametrize(
    "url", ["", "x", "/tmp/x.zip", "ftp://host/x", "file:///etc/passwd", "http://", "http://h:port/", "http://["]
)
def test_what_is_no_address_is_a_wrong_command(url, tmp_path):
    with pytest.raises(ConfigError, match="--url .*http:// or https://"):
        download(url, tmp_path / "file.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "0" * 63])
def test_what_is_no_sum_is_a_wrong_command(sha256, server, tmp_path):
    with pytest.raises(ConfigError, match="--sha256"):
        get(server, tmp_path, sha256=sha256)
    assert server.requests == []
