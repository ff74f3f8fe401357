"""A token server for SASL OAUTHBEARER, and the tokens that the tests' broker takes."""

import base64
import json
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "client sesame/1:2"


def encoded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(key, lasts_s=3600, **claims):
    """A JWT as the broker wants it; claims that are None are left out."""
    now = int(time.time())
    claims = {"sub": "tide", "aud": "tide", "scope": "kafka", "iat": now, "exp": now + lasts_s} | claims
    header = {"alg": "RS256", "kid": "tide", "typ": "JWT"}
    claims = {name: value for name, value in claims.items() if value is not None}
    text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    sign = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signature = subprocess.run(sign, input=text.encode(), capture_output=True, check=True).stdout
    return f"{text}.{encoded(signature)}"


class TokenServer:
    """Gives tokens to the client `tide`; `answer` replaces (status, body) for every request that comes."""

    def __init__(self, key):
        self.key, self.lasts_s, self.claims = key, 3600, {}
        self.requests, self.answer = [], None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                server.requests.append(dict(urllib.parse.parse_qsl(form)))
                status, body = server.answer or server.judge(self.headers["Authorization"])
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/realms/tide/token"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def judge(self, authorization):
        # RFC 6749: both parts are encoded as in a form before they are joined.
        pair = f"tide:{urllib.parse.quote_plus(SECRET)}".encode()
        if authorization != f"Basic {base64.b64encode(pair).decode()}":
            return 401, {"error": "invalid_client", "error_description": "who is that?"}
        token = signed(self.key, self.lasts_s, **self.claims)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lasts_s}

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
