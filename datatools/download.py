"""Files from the web: with progress, gone on with after an interruption, and checked.

What has arrived of a file lies beside it as `.NAME.part`, with notes on where it came from in `.NAME.part.json`. A download goes on
from there only where the server vouches that its file is still the same one (ETag or Last-Modified, RFC 9110, section 13.1.5);
otherwise it begins anew, so that two versions are never glued together.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import string
import time
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Callable, Mapping, Optional, Union
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from tqdm import tqdm

from errors import ConfigError, DownloadError
from utils import write_bytes

BLOCK = 1 << 16
LONGEST_PAUSE = 60.0
PASSING = {  # answers that another attempt may change
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
HANDLERS = (  # neither local files nor FTP, also after a redirection
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
)


def download(
    url: str,
    target: Union[str, Path],
    sha256: Optional[str] = None,
    label: str = "",
    attempts: int = 4,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> str:
    """Download `url` to the file `target`, whose folder is made; returns the file's SHA-256.

    A `target` that is there already is not downloaded again, only checked. Proxies are taken from the environment (http_proxy,
    https_proxy, no_proxy).

    Args:
        sha256: what the file's SHA-256 must be, 64 hexadecimal digits.
        label: name on the progress bar (none: the file's name).
        attempts: how often in a row the connection may break off without anything new arriving.
        pause: seconds before the second attempt; doubled before each further one.
        timeout: seconds in which the server must answer, or go on.

    Raises:
        ConfigError: the address or the SHA-256 is none.
        DownloadError: nobody answers, the server refuses, the connection keeps breaking off (what has arrived is kept, and the
            next call goes on with it), the disk has no room, or the SHA-256 is another one (then the file is removed).
    """
    check_request(url, sha256)
    target = Path(target)
    if target.exists():
        return check_file(target, sha256)
    partial = _Partial(target, url)
    try:
        _receive_all(partial, label or target.name, attempts, pause, timeout)
    except BaseException:  # also Ctrl-C: what no later call could go on with must not stay behind
        if not partial.usable:
            partial.discard()
        raise
    found = sha256_of(partial.path)
    if sha256 and found != sha256.lower():
        partial.discard()
        raise DownloadError(f"{url}: the file's sha256 is {found}, not {sha256.lower()}; it was not kept")
    os.replace(partial.path, target)
    partial.discard()
    return found


def check_request(url: Optional[str], sha256: Optional[str]) -> None:
    """Raise ConfigError where an address is not one of the web, or a SHA-256 is none."""
    if url is not None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ConfigError(f"--url {url!r}: give an address that begins with http:// or https://")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"--sha256 {sha256!r}: give 64 hexadecimal digits")


def check_file(path: Path, sha256: Optional[str]) -> str:
    """The SHA-256 of a file that is there already. Raises DownloadError where it should be another."""
    found = sha256_of(path)
    if sha256 and found != sha256.lower():
        raise DownloadError(f"{path}: its sha256 is {found}, not {sha256.lower()}; remove the file to download it again")
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


class _BrokenOff(Exception):
    """The connection failed, or the server was busy: another attempt may succeed."""


class _Changed(Exception):
    """The server cannot go on with the file that we have a part of."""


class _Partial:
    """What has arrived of one file, and what must still be true of the server's file to go on with it."""

    def __init__(self, target: Path, url: str) -> None:
        self.url = url
        self.path = target.with_name(f".{target.name}.part")
        self.notes = target.with_name(f".{target.name}.part.json")
        self.validator: Optional[str] = None
        self.length: Optional[int] = None
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
            if notes["url"] == url:
                self.validator, self.length = notes["validator"], notes["length"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # without notes the download begins anew

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def usable(self) -> int:
        """Bytes that a download can go on from."""
        return self.size if self.validator else 0

    @property
    def is_whole(self) -> bool:
        return bool(self.validator) and self.path.exists() and self.size == self.length

    def begin(self, validator: Optional[str], length: Optional[int]) -> None:
        """An empty file, before its notes: the notes of one version must never stand beside the bytes of another."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self.validator, self.length = validator, length
        notes = {"url": self.url, "validator": validator, "length": length}
        write_bytes(self.notes, json.dumps(notes).encode())

    def discard(self) -> None:
        self.validator = self.length = None
        for path in (self.path, self.notes):
            if path.exists():
                path.unlink()


def _receive_all(partial: _Partial, label: str, attempts: int, pause: float, timeout: float) -> None:
    """Bring `partial` to its end, in as many connections as that takes."""
    opener = urllib.request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    failures, furthest = 0, partial.usable
    while not partial.is_whole:
        try:
            return _receive(opener, partial, label, timeout)
        except _Changed:
            partial.discard()
        except _BrokenOff as error:
            failures = 1 if partial.size > furthest else failures + 1
            furthest = max(furthest, partial.size)
            if failures >= attempts:
                raise DownloadError(f"{partial.url}: {error}; {_remedy(partial)}") from error
            time.sleep(min(LONGEST_PAUSE, pause * 2 ** (failures - 1)))
        except URLError as error:  # nobody there: trying again at once would only delay the message
            raise DownloadError(
                f"{partial.url} cannot be reached ({_reason(error)}); check the address, the network and the proxy settings "
                "(http_proxy, https_proxy)"
            ) from error
    return None


def _remedy(partial: _Partial) -> str:
    if not partial.usable:
        return "try again later"
    of = f" of {partial.length:,}" if partial.length else ""
    return f"{partial.usable:,}{of} bytes are kept, and the same command goes on from there"


def _receive(opener: urllib.request.OpenerDirector, partial: _Partial, label: str, timeout: float) -> None:
    """One connection: returns at the end of the file."""
    first = partial.usable
    # Quoted: an address that was copied from a browser may hold spaces or Chinese.
    request = urllib.request.Request(quote(partial.url, safe=string.punctuation), headers={"User-Agent": "image-translation"})
    if first:
        request.add_header("Range", f"bytes={first}-")
        request.add_header("If-Range", partial.validator or "")
    with _open(opener, request, timeout) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT and first:
            _check_continuation(response.headers, partial, first)
        elif response.status == HTTPStatus.OK:
            first = 0
            partial.begin(_validator(response.headers), response.length)
        else:
            raise DownloadError(_refusal(partial.url, response.status))
        _check_room(partial, first)
        _write_body(response, partial, first, label)
    if partial.length is not None and partial.size < partial.length:
        raise _BrokenOff("the connection broke off")


def _open(opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    try:
        return opener.open(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and request.has_header("Range"):
            raise _Changed from error
        if error.code in PASSING:
            raise _BrokenOff(f"the server answers {_status(error.code)}") from error
        raise DownloadError(_refusal(request.full_url, error.code)) from error
    except URLError as error:
        if request.has_header("Range"):  # a server that we have part of a file from was there, and may come back
            raise _BrokenOff(_reason(error)) from error
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(_reason(error)) from error
    except ValueError as error:  # an impossible host name, perhaps that of a redirection
        raise DownloadError(f"{request.full_url}: this address, or the one that it leads to, is not valid ({error})") from error


def _check_continuation(headers: Mapping[str, str], partial: _Partial, first: int) -> None:
    """Raise _Changed unless what comes is the rest of the very file that we have the beginning of."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if not found or int(found.group(1)) != first or _validator(headers) not in (partial.validator, None):
        raise _Changed
    if found.group(2) != "*":
        if partial.length not in (int(found.group(2)), None):
            raise _Changed
        partial.length = int(found.group(2))


def _validator(headers: Mapping[str, str]) -> Optional[str]:
    """What names this version of the file: a strong ETag, else the time of its last change, else None."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _check_room(partial: _Partial, first: int) -> None:
    free = shutil.disk_usage(partial.path.parent).free
    missing = (partial.length or 0) - first
    if missing > free:
        raise DownloadError(
            f"{partial.url}: {missing:,} bytes are still to come, but the disk of {partial.path.parent} has {free:,} free"
        )


def _write_body(response: http.client.HTTPResponse, partial: _Partial, first: int, label: str) -> None:
    """Write what the server sends behind the first `first` bytes, and not beyond the file's length."""
    position = first
    bar = tqdm(desc=label, total=partial.length, initial=first, unit="B", unit_scale=True, dynamic_ncols=True, disable=None)
    with open(partial.path, "r+b") as file, bar:
        file.seek(first)
        while position != partial.length:
            block = _read(response.read, BLOCK if partial.length is None else min(BLOCK, partial.length - position))
            if not block:
                break
            file.write(block)
            position += len(block)
            bar.update(len(block))


def _read(read: Callable[[int], bytes], count: int) -> bytes:
    """Apart from the writing, whose errors no further attempt would mend."""
    try:
        return read(count)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Why a connection failed, as one line that holds nothing of the server's own text."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, http.client.HTTPException) and not isinstance(cause, OSError):
        return "the connection broke off" if isinstance(cause, http.client.IncompleteRead) else "the answer is not proper HTTP"
    return " ".join((getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).split())


def _status(code: int) -> str:
    return f"{code} ({http.client.responses.get(code, 'unknown')})"


def _refusal(url: str, code: int) -> str:
    return f"{url}: the server answers {_status(code)}; check the address"
