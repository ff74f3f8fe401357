"""What all campaigns of one call share: a broker with a proxy before it, the binary, Spark, chance."""

import random
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from faults.process import build_shim
from faults.proxy import Proxy
from kafka import Broker
from spark import start_spark


@dataclass
class Context:
    directory: Path
    binary: Path
    seed: int
    quick: bool
    # Worlds whose tables Spark has not seen yet, with the score of their last campaign.
    unseen: dict = field(default_factory=dict)
    # Worlds that more than one campaign strikes at, by what they are.
    shared: dict = field(default_factory=dict)
    next_kind: int = 0
    # How many orphans `clean` took, by the table's folder.
    cleaned: dict = field(default_factory=dict)
    # Which phase a campaign that takes them in turn comes to next.
    turn: int = 0
    proxy: Proxy = field(default_factory=Proxy)

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.shim = build_shim(self.directory)
        # The JVM needs many seconds that the broker's start and the first campaigns can share.
        self.session = None
        self.starting = threading.Thread(target=self.start_spark)
        self.starting.start()
        self.broker = Broker(self.directory / "kafka", proxied=self.proxy.port)
        self.proxy.lead_to(self.broker.proxied)

    def start_spark(self):
        session = start_spark()
        # Each race that Spark loses would be a page of its log.
        session.sparkContext.setLogLevel("OFF")
        self.session = session

    def spark(self):
        self.starting.join()
        if self.session is None:
            raise RuntimeError("Spark did not start")
        return self.session

    def clean_and_look(self):
        """Cleans the tables of the campaigns that are over; then Spark and PyIceberg compare them."""
        for world, score in self.unseen.items():
            self.cleaned[world.directory.name], problems = world.clean()
            score.problems += problems
            difference = world.check_everywhere(self.spark())
            if difference:
                score.blame(world, difference)
        self.unseen.clear()

    def forget(self, world):
        """A spoiled world is not struck at again, nor looked at."""
        self.unseen.pop(world, None)
        self.shared = {key: other for key, other in self.shared.items() if other is not world}

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def close(self):
        self.starting.join()
        if self.session:
            self.session.stop()
        self.broker.stop()
