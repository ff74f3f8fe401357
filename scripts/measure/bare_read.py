"""Reads a topic from its beginning to its end as now known, and does nothing with it: the floor under W1.

    python bare_read.py BOOTSTRAP TOPIC

librdkafka with its default settings, by its Python client in large batches: of a million records that took
1.33 CPU s, the same calls without a Python object for each record 1.26, Kafka's own
kafka-consumer-perf-test 4.0, and none was faster by the wall. Prints how many records came.
"""

import sys

from confluent_kafka import Consumer, TopicPartition

BATCH = 10_000
TIMEOUT_S = 10


def main(bootstrap, topic):
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bare-read", "enable.auto.commit": False}
    )
    expected, begin = 0, []
    for partition in consumer.list_topics(topic).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition))
        expected += high - low
        begin.append(TopicPartition(topic, partition, low))
    consumer.assign(begin)
    left = expected
    while left > 0:
        messages = consumer.consume(BATCH, TIMEOUT_S)
        if not messages:
            sys.exit(f"{left} of {expected} records did not come")
        left -= len(messages)
    print(expected)


main(*sys.argv[1:])
