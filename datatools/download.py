"""Download a file, with progress; an interrupted download is resumed.

The bytes that have arrived are kept as `.NAME.part`, with the time of the server's file (Last-Modified). A download is resumed only
if the server's file still has that time.
"""

from __future__ import annotations

import os
import string
from email.utils import formatdate, mktime_tz, parsedate_tz
from http.client import HTTPException
from pathlib import Path
from typing import Union
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, build_opener

from engine.progress import Progress
from errors import ConfigError, DownloadError
from utils import sha256_of

BLOCK = 1 << 18


def download(url: str, target: Union[str, Path], label: str = "", timeout: float = 30.0) -> str:
    """Download `url` to the file `target`, whose folder is made; returns the file's SHA-256.

    A `target` that exists is not downloaded again. Proxies come from the environment (http_proxy, https_proxy). `label` names the
    progress bar; the server must answer within `timeout` seconds.

    Raises:
        ConfigError: `url` is not a web address.
        DownloadError: the server cannot be reached, refuses, or breaks off (the next call resumes).
        OSError: the file cannot be written.
    """
    target = Path(target)
    if target.exists():
        return sha256_of(target)
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url {url!r}: give an address that begins with http:// or https://")
    part = target.with_name(f".{target.name}.part")
    try:
        if not _receive(url, part, label or target.name, timeout):
            part.unlink()  # the server has another file now: from the beginning
            _receive(url, part, label or target.name, timeout)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: an impossible address, perhaps that of a redirection
        if getattr(error, "filename", None) and not isinstance(error, HTTPError):
            raise  # not the network, but a file that cannot be written
        cause = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
        reason = ascii(str(cause)[:100])[1:-1] or type(cause).__name__  # the text may be the server's
        remedy = "check the address, the network and the proxy (http_proxy, https_proxy)"
        if part.exists() and part.stat().st_mtime:
            remedy = f"{part.stat().st_size:,} bytes are kept, repeat the command to resume"
        raise DownloadError(f"{url}: the download failed ({reason}); {remedy}") from error
    part.replace(target)
    return sha256_of(target)


def _receive(url: str, part: Path, label: str, timeout: float) -> bool:
    """Bring `part` to its end; False if the server cannot resume it. Raises OSError, HTTPException or ValueError."""
    first, changed = (part.stat().st_size, formatdate(part.stat().st_mtime, usegmt=True)) if part.exists() else (0, "")
    # Quoted: an address copied from a browser may hold spaces or Chinese.
    request = Request(quote(url, safe=string.punctuation), headers={"User-Agent": "ugatit-paddle"})
    if first:
        request.add_header("Range", f"bytes={first}-")
        request.add_header("If-Range", changed)
    try:
        response = build_opener().open(request, timeout=timeout)
    except HTTPError as error:
        if not first or error.code != 416:
            raise
        return False  # the file has become shorter
    with response:
        place, time = response.headers.get("Content-Range", ""), response.headers.get("Last-Modified")
        resumed = first and response.status == 206
        if resumed and (time != changed or not place.startswith(f"bytes {first}-")):
            return False
        if not resumed and response.status != 200:
            raise HTTPException(f"the server answers {response.status}")
        part.parent.mkdir(parents=True, exist_ok=True)
        first = first if resumed else 0
        total = None if response.length is None else first + response.length
        date = parsedate_tz(time or "")
        seconds = mktime_tz(date) if date else 0  # 0: never the time of a file, so it is not resumed
        with open(part, "ab" if resumed else "wb", buffering=0) as file, Progress(label, total, "bytes", first) as progress:
            while block := response.read(BLOCK):
                file.write(block)
                os.utime(part, (seconds, seconds))
                progress.update(len(block))
        if response.length:
            raise HTTPException("the connection broke off")
    return True
