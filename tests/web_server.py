"""A web server on this machine that serves one file, and can be told to misbehave request by request."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Dict, List, Optional


class Handler(BaseHTTPRequestHandler):
    """Does the next thing of `server.script`, and after the last one serves `server.content`."""

    def do_GET(self) -> None:
        server: WebServer = self.server
        server.requests.append(dict(self.headers.items()))
        server.paths.append(self.path)
        (server.script.pop(0) if server.script else serve)(self, server)

    def start(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


Behaviour = Callable[[Handler, "WebServer"], None]


class WebServer(ThreadingHTTPServer):
    """`with WebServer(content) as server:` serves `server.url`; `requests` and `paths` hold what was asked for."""

    daemon_threads = True

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.changed = content, "Wed, 01 Jan 2020 00:00:00 GMT"
        self.script: List[Behaviour] = []
        self.requests: List[Dict[str, str]] = []
        self.paths: List[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.zip"

    def __enter__(self) -> WebServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def ranges(self) -> List[Optional[str]]:
        return [headers.get("Range") for headers in self.requests]


def serve(handler: Handler, server: WebServer, limit: Optional[int] = None, minds_if_range: bool = True) -> None:
    """What a good server does; with `limit` it breaks off after so many bytes of the body."""
    wanted, whole = handler.headers.get("Range"), len(server.content)
    first = int(wanted[len("bytes=") : -1]) if wanted else 0
    if wanted and (handler.headers.get("If-Range") == server.changed or not minds_if_range):
        if first >= whole:
            return handler.start(416, Content_Range=f"bytes */{whole}", Content_Length=0)
        place = f"bytes {first}-{whole - 1}/{whole}"
        handler.start(206, Content_Range=place, Content_Length=whole - first, Last_Modified=server.changed)
    else:
        first = 0
        handler.start(200, Content_Length=whole, Last_Modified=server.changed)
    handler.wfile.write(server.content[first:][:limit])
    return None


def break_off(count: int) -> Behaviour:
    return lambda handler, server: serve(handler, server, limit=count)


def careless(handler: Handler, server: WebServer) -> None:
    """Sends the rest of whatever file there is now, without a look at If-Range."""
    serve(handler, server, minds_if_range=False)


def answer(status: int, body: bytes = b"", **headers: object) -> Behaviour:
    """A fixed answer."""

    def behave(handler: Handler, server: WebServer) -> None:
        handler.start(status, Content_Length=len(body), **headers)
        handler.wfile.write(body)

    return behave


def raw(text: bytes) -> Behaviour:
    """Bytes that need not be HTTP."""
    return lambda handler, server: handler.wfile.write(text) and None
