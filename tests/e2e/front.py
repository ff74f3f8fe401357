"""An HTTP server before another one: sees every request, and may hold it, answer itself, or speak TLS."""

import http.client
import json
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BACK_TIMEOUT_S = 240
# What a proxy says for itself.
OWN_HEADERS = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(eq=False)
class Seen:
    """One request as it came, names of headers in lowercase; and once it is answered, how."""

    method: str
    path: str
    headers: dict
    body: bytes
    status: int | None = None
    answered: threading.Event = field(default_factory=threading.Event)

    @property
    def is_commit(self):
        return self.method == "POST" and b'"requirements"' in self.body


def error(status, kind, message):
    """An answer in the words of Iceberg's specification."""
    return status, json.dumps({"error": {"message": message, "type": kind, "code": status}}).encode()


class Front:
    """Leads to the server at `uri`; `self.uri` is the same below its own address.

    `before` may answer a request (status, body) in the server's place, or hold it as long as it likes;
    `after` is given the answer's body and gives the body to pass on. `tls` is a server's context.
    """

    def __init__(self, uri, tls=None):
        self.back, self.tls = urlsplit(uri), tls
        self.seen = []
        self.before = lambda seen: None
        self.after = lambda seen, body: body
        self.http = Server(("127.0.0.1", 0), handler(self))
        scheme = "https" if tls else "http"
        self.uri = f"{scheme}://localhost:{self.http.server_port}{self.back.path}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def commits(self):
        return [seen for seen in self.seen if seen.is_commit]

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def answer(self, seen):
        """Headers and body. What the server does is done even if nobody waits for it any more."""
        if own := self.before(seen):
            seen.status, body = own
            return {"Content-Type": "application/json"}, body
        back = http.client.HTTPConnection(self.back.netloc, timeout=BACK_TIMEOUT_S)
        try:
            headers = {name: value for name, value in seen.headers.items() if name not in OWN_HEADERS}
            # The host stays, as signatures cover it. What comes back must be readable here.
            headers["accept-encoding"] = "identity"
            back.request(seen.method, seen.path, seen.body or None, headers)
            said = back.getresponse()
            seen.status, body = said.status, self.after(seen, said.read())
            kept = {n: v for n, v in said.getheaders() if n.lower() not in OWN_HEADERS}
            return kept, body
        finally:
            back.close()


def handler(front):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            if front.tls:
                self.request = secured(front.tls, self.request)
            super().setup()

        def serve(self):
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, self.rfile.read(length))
            front.seen.append(seen)
            headers, body = front.answer(seen)
            seen.answered.set()
            self.send_response_only(seen.status)
            if self.command != "HEAD":
                # Of HEAD it is the length of what GET would bring.
                headers = {n: v for n, v in headers.items() if n.lower() != "content-length"}
                headers |= {"Content-Length": len(body)} if seen.status != 204 else {}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = serve

    return Handler


def secured(tls, connection):
    """The connection after its handshake; an alert reaches the client before the connection ends."""
    secure = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        secure.do_handshake()
    except OSError:
        with suppress(OSError):
            socket.socket.shutdown(secure, socket.SHUT_WR)
            while socket.socket.recv(secure, 1 << 14):
                pass
        raise
    return secure


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A handshake that fails is part of some tests, and so is a client that goes away.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
