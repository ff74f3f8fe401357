"""What every measurement needs: a broker, directories, and facts about this machine and its programs."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import confluent_kafka
from measure import account
from workload import Workload

SCRIPTS = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ["TIDEGATE_CACHE"])
CODECS = {
    "zstd": {"write.parquet.compression-codec": "zstd", "write.parquet.compression-level": "1"},
    "snappy": {"write.parquet.compression-codec": "snappy"},
}


class Rig:
    """One broker and one directory for all runs of a call."""

    def __init__(self, codec):
        self.codec = CODECS[codec]
        (CACHE / "bench").mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(dir=CACHE / "bench"))
        self.made = 0

    def __enter__(self):
        return self

    def start(self):
        # Kafka's default: tasks of Connect that join one after the other may all think that another commits.
        delay = "group.initial.rebalance.delay.ms=3000"
        up = [SCRIPTS / "kafka", "up", "--set", delay, self.directory / "kafka"]
        printed = subprocess.run(up, check=True, stdout=subprocess.PIPE, text=True).stdout
        self.bootstrap = printed.strip().removeprefix("bootstrap.servers=")

    def __exit__(self, *_):
        subprocess.run([SCRIPTS / "kafka", "down", self.directory / "kafka"], check=False)

    def delete(self):
        shutil.rmtree(self.directory)

    def fresh(self, name):
        self.made += 1
        directory = self.directory / f"{self.made:02d}-{name}"
        directory.mkdir()
        return directory

    def process(self, tool, work, command, records=0, environment=None):
        return account.Process(self.directory, tool, work, command, records, environment)

    def run(self, *arguments):
        return self.process(*arguments).result()

    def workload(self, topic, records, ordered=False):
        return Workload(self.bootstrap, topic, records, ordered)


def produce(what, write, records):
    began = time.monotonic()
    write(records)
    account.say(f"{what}: {records:,} records produced in {time.monotonic() - began:.0f} s")


def machine():
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "platform": platform.platform(),
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "load": os.getloadavg(),
    }


def versions(options):
    """Of every program that is measured, or measures."""

    def jar(kind, stem):
        found = sorted((CACHE / "jars" / kind).glob(f"{stem}-[0-9]*.jar"))
        return found[0].stem.removeprefix(f"{stem}-") if found else None

    found = {
        "tidegate": output(os.environ["TIDEGATE_BIN"], "--version").removeprefix("tidegate "),
        "kafka": jar("kafka", "kafka_2.13"),
        "librdkafka of the bare read": confluent_kafka.libversion()[0],
        "duckdb": version("duckdb"),
        "python": platform.python_version(),
        "java": output("java", "-version").splitlines()[0],
    }
    if options.merging_peers:
        found |= {"spark": version("pyspark"), "iceberg": jar("spark", "iceberg-spark-runtime-4.1_2.13")}
    if options.append:
        found["kafka connect's iceberg sink"] = jar("connect", "iceberg-kafka-connect")
    return found


def commit():
    """Of the checkout, from which scripts/bench has just built the binary, unless one was given by hand."""
    if Path(os.environ["TIDEGATE_BIN"]) != Path(os.environ["CARGO_TARGET_DIR"]) / "release" / "tidegate":
        return "of a binary given by hand"
    return output("git", "-C", SCRIPTS, "describe", "--always", "--dirty", "--abbrev=12") or "unknown"


def output(*command):
    """Stdout, and stderr where java says its version."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def today():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
