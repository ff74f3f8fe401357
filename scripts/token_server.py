"""An OAuth2 server for tests: signed tokens for the credentials of one client, and the keys to check them by.

    python token_server.py PORT LIFETIME_S CLIENT SECRET

On loopback: RFC 6749's client credentials, RFC 7517's keys, OpenID Connect's discovery.
"""

import base64
import json
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY_ID = uuid.uuid4().hex


def url_safe(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value):
    return url_safe(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def public_key():
    numbers = KEY.public_key().public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": KEY_ID,
        "n": number(numbers.n),
        "e": number(numbers.e),
    }


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/.well-known/openid-configuration":
            issuer = self.server.issuer
            self.answer(
                200, {"issuer": issuer, "token_endpoint": f"{issuer}/token", "jwks_uri": f"{issuer}/keys"}
            )
        elif self.path == "/keys":
            self.answer(200, {"keys": [public_key()]})
        else:
            self.answer(404, {"error": "not_found"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        if self.path != "/token":
            self.answer(404, {"error": "not_found"})
        elif self.client(form) != self.server.client:
            self.answer(
                401, {"error": "invalid_client", "error_description": "unknown client or wrong secret"}
            )
        elif form.get("grant_type") != "client_credentials":
            self.answer(400, {"error": "unsupported_grant_type"})
        else:
            lifetime_s = self.server.lifetime_s
            granted = {"access_token": self.token(form.get("scope", "")), "token_type": "Bearer"}
            self.answer(200, granted | {"expires_in": lifetime_s})

    def client(self, form):
        """Who asks, by either of the ways of RFC 6749, section 2.3.1."""
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
            return unquote(name), unquote(secret)
        return form.get("client_id"), form.get("client_secret")

    def token(self, scope):
        now = int(time.time())
        claims = {"iss": self.server.issuer, "sub": self.server.client[0], "aud": "tidegate", "scope": scope}
        claims |= {"iat": now, "exp": now + self.server.lifetime_s, "jti": uuid.uuid4().hex}
        parts = ({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}, claims)
        signed = ".".join(url_safe(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{url_safe(KEY.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *arguments):
        # On stderr, which the starter keeps; the path holds no secret.
        sys.stderr.write(f"{time.time():.3f} {format % arguments}\n")


def main():
    port, lifetime_s, client, secret = sys.argv[1:]
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.issuer = f"http://127.0.0.1:{port}"
    server.lifetime_s = int(lifetime_s)
    server.client = (client, secret)
    server.serve_forever()


main()
