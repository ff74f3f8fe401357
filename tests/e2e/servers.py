"""The catalogs and stores of scripts/servers."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "servers"
TIMEOUT_S = 400


class Server:
    """One running server; `facts` is what its clients must know."""

    def __init__(self, name, directory, **settings):
        self.name, self.directory = name, directory
        self.given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.facts = self.start()

    def start(self):
        """Also after `stop`: on the same port, with the same data."""
        done = self.call("up", *self.given, self.name, self.directory)
        return dict(line.split("=", 1) for line in done.splitlines())

    def stop(self):
        self.call("down", self.directory)

    def kill(self):
        self.call("down", "--kill", self.directory)

    def call(self, *arguments):
        done = subprocess.run(
            [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
