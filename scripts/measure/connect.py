"""Kafka Connect with Iceberg's sink, in standalone mode: the peer of append mode."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from shutil import which

from confluent_kafka.admin import AdminClient, NewTopic
from measure.rig import CACHE
from measure.tidegate import Tidegate
from processes import free_ports

TIMEOUT_S = 1800
POLL_S = 0.2
HEAP = "2g"
# A JVM that SIGTERM ended in order says so by its code.
STOPPED = (0, 128 + signal.SIGTERM)

LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.err.ref=ERR
appender.err.type=Console
appender.err.name=ERR
appender.err.target=SYSTEM_ERR
appender.err.layout.type=PatternLayout
appender.err.layout.pattern=[%d] %p %m (%c)%n
"""
# A task looks at the sink's control topic when records come, or once in a flush interval: with the default
# of 60 s the last commit would wait for that long, with nothing to do.
WORKER = """\
bootstrap.servers={bootstrap}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=false
offset.storage.file.filename={directory}/offsets
offset.flush.interval.ms=1000
listeners=http://127.0.0.1:{port}
plugin.discovery=service_load
consumer.auto.offset.reset=earliest
consumer.max.poll.records=5000
"""
# The sink takes part in the commit as one group; its tasks share the partitions of the topic.
SINK = """\
name={name}
connector.class=org.apache.iceberg.connect.IcebergSinkConnector
tasks.max={cores}
topics={topic}
iceberg.tables=bench.articles
iceberg.control.topic={control}
iceberg.control.commit.interval-ms={interval_ms}
iceberg.kafka.bootstrap.servers={bootstrap}
iceberg.kafka.auto.offset.reset=earliest
iceberg.catalog.type=jdbc
iceberg.catalog.uri=jdbc:sqlite:{database}
iceberg.catalog.warehouse=file://{directory}/warehouse
iceberg.catalog.jdbc.schema-version=V1
iceberg.catalog=tidegate
"""


def rows_committed(metadata):
    """As the newest snapshot says; enough to know when to stop."""
    table = json.loads(Path(metadata).read_text())
    current = table.get("current-snapshot-id")
    summaries = [it["summary"] for it in table.get("snapshots", []) if it["snapshot-id"] == current]
    return int(summaries[0]["total-records"]) if summaries else 0


class Connect:
    tool = "connect"

    def __init__(self, rig, topic, interval_s):
        self.rig = rig
        # The table is of the same making; it is empty, and the catalog is one that Java knows.
        self.table = Tidegate(rig, topic, "append")
        directory = self.table.directory
        # A sink of its own each time: one of the same name would go on where the last one ended.
        connector = f"articles-{directory.name}"
        control = f"control-{connector}"
        new = NewTopic(control, num_partitions=1, replication_factor=1)
        admin = AdminClient({"bootstrap.servers": rig.bootstrap})
        admin.create_topics([new])[control].result()
        for name, text in (("log4j2", LOGGING), ("worker", WORKER), ("sink", SINK)):
            filled = text.format(
                bootstrap=rig.bootstrap,
                control=control,
                cores=os.cpu_count(),
                database=self.table.database,
                directory=directory,
                interval_ms=interval_s * 1000,
                name=connector,
                port=free_ports(1)[0],
                topic=topic,
            )
            (directory / f"{name}.properties").write_text(filled)

    def fill(self, work, records):
        """From the start of the worker to the commit that completes the table, and the worker's end."""
        directory = self.table.directory
        jars = CACHE / "jars" / "connect"
        command = [
            which("java"),
            f"-Xmx{HEAP}",
            f"-Dlog4j2.configurationFile={directory}/log4j2.properties",
            "-cp",
            f"{jars}/*",
            "org.apache.kafka.connect.cli.ConnectStandalone",
            directory / "worker.properties",
            directory / "sink.properties",
        ]
        process = self.rig.process(self.tool, work, command, records)
        deadline = time.monotonic() + TIMEOUT_S
        while rows_committed(self.table.metadata()) < records:
            if not process.running() or time.monotonic() > deadline:
                process.stop()
                sys.exit(f"connect did not complete the table, see {process.log}")
            time.sleep(POLL_S)
        process.stop()
        row, _ = process.result(ended_by=STOPPED)
        return row

    def metadata(self):
        return self.table.metadata()
