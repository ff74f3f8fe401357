"""W2 on a large table of random ids, made by tidegate itself.

Nothing but a topic leads into its writer, so the rows come through Kafka, too: chunk by chunk, each deleted
from the topic once it is in the table. How long that takes is no figure of the result.
"""

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from measure import account, content
from measure.rig import produce
from measure.tidegate import Tidegate
from measure.works import INCREMENTS
from workload import PARTITIONS

TOPIC = "articles-large"
CHUNK = 5_000_000


def scale(rig, options):
    """The row of the increments' medians; bytes and requests are in it as the runs reported them."""
    workload = rig.workload(TOPIC, options.scale)
    table = Tidegate(rig, TOPIC)
    for at in range(0, options.scale, CHUNK):
        size = min(CHUNK, options.scale - at)
        produce("large table", workload.only_new, size)
        table.fill("fill", size)
        empty(rig.bootstrap)
    work = f"W2 on {options.scale:,} rows"
    content.check("filled", table.metadata(), workload.truth())
    rows = []
    for _ in range(INCREMENTS):
        produce(work, workload.w2, options.increment)
        rows.append(table.run(work, options.increment))
        content.check(work, table.metadata(), workload.truth())
    return [account.medians(rows)]


def empty(bootstrap):
    """Deletes what the topic holds; the broker then drops its files."""
    ends = [TopicPartition(TOPIC, partition, -1) for partition in range(PARTITIONS)]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for done in admin.delete_records(ends).values():
        done.result()
