"""Columns of every type that all three readers know, and the record's own metadata."""

import base64

import pytest
from articles import article

COLUMNS = {
    "id": "uuid",
    "flag": "boolean",
    "small": "int",
    "large": "long",
    "ratio": "double",
    "single": "float",
    "price": "decimal(12,2)",
    "mass": "decimal(38, 10)",
    "day": "date",
    "local_at": "timestamp",
    "published_at": "timestamptz",
    "raw": "binary",
    "place": "struct<lat: double, lon: double, name: string>",
    "tags": "list<string>",
    "scores": "map<string, long>",
    "deep": "struct<items: list<struct<a: int, b: string>>, by_name: map<string, double>>",
    "version": "long",
}


def everything(number):
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "flag": number % 2 == 0,
        "small": -(2**31) + number,
        "large": 2**63 - 1 - number,
        "ratio": number / 7,
        "single": 0.5 + number,
        "price": f"{number}.25",
        "mass": "1234567890123456789012345678.0123456789",
        "day": "2024-02-29",
        "local_at": "2025-03-01T10:20:30.123456",
        "published_at": "2025-03-01T10:20:30.123456+02:00",
        "raw": base64.b64encode(bytes(range(number + 3))).decode(),
        "place": {"lat": 59.91, "lon": 10.75, "name": "Oslo \u00e6\u00f8\u00e5 \U0001f30a"},
        "tags": ["a", None, ""],
        "scores": {"one": 1, "two": None},
        "deep": {"items": [{"a": 1, "b": "x"}, {"a": None, "b": None}], "by_name": {"k": 0.5}},
        "version": number,
    }


@pytest.mark.parametrize("version", [2, 3])
def test_every_type(make_job, version):
    job = make_job(columns=dict(COLUMNS), sections={"table": {"format_version": version}})
    job.init()
    nothing = {name: None for name in COLUMNS} | {k: everything(9)[k] for k in ("id", "published_at")}
    empty = everything(8) | {"tags": [], "scores": {}, "raw": "", "place": {}, "deep": {"items": []}}
    job.topic.send([everything(0), everything(1), nothing, empty])
    job.go()
    job.topic.send([everything(1) | {"version": 5, "tags": ["changed"]}, everything(2)])
    job.go()


def test_values_that_do_not_fit_are_rejected(make_job):
    job = make_job(columns=dict(COLUMNS))
    job.init()
    bad = {
        "id": "no uuid",
        "flag": "maybe",
        "small": 2**31,
        "price": "twelve",
        "day": "2025-02-30",
        "local_at": "noon",
        "raw": "not base64!",
        "place": "Oslo",
        "tags": "a",
        "scores": [1],
    }
    job.topic.send(
        [everything(0)] + [everything(i + 1) | {name: value} for i, (name, value) in enumerate(bad.items())]
    )
    assert job.go()["records"]["rejected"] == len(bad)


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_timestamps_as_numbers(make_job, unit):
    job = make_job(rules={"epoch_unit": unit}, sections={"format": {"epoch_unit": unit}})
    job.init()
    scale = {"s": 1, "ms": 1_000, "us": 1_000_000}[unit]
    seconds = 1_740_787_200
    job.topic.send(
        [
            article("whole") | {"published_at": seconds * scale},
            article("part") | {"published_at": seconds * scale + 7},
            article("text") | {"published_at": "2025-03-01T00:00:00.000007Z"},
        ]
    )
    job.go()


def test_metadata_columns(make_job):
    kinds = {
        "kafka_offset": ("offset", "long"),
        "kafka_partition": ("partition", "int"),
        "kafka_topic": ("topic", "string"),
        "kafka_timestamp": ("timestamp", "timestamptz"),
        "kafka_key": ("key", "binary"),
        "kafka_headers": ("headers", "map<string, binary>"),
        "value_sha256": ("sha256", "string"),
    }
    columns = {"id": "string", "title": "string", "published_at": "timestamptz", "version": "long"}
    job = make_job(
        columns=columns | {name: kind for name, (_, kind) in kinds.items()},
        rules={
            "metadata": {name: source for name, (source, _) in kinds.items()},
            # A metadata column can make the order of versions total.
            "order_by": ("version", "kafka_offset"),
        },
    )
    job.init()
    topic = job.topic
    topic.produce(
        article("a", 1), b"\x00key", 0, 1_740_787_200_123, [("trace", b"\x01\x02"), ("kind", b"new")]
    )
    topic.produce(article("b", 1), "b", 1, 1_740_787_200_456, [("trace", b"")])
    topic.flush()
    job.go()
    topic.produce(article("a", 1), "a", 0, 1_740_787_300_000, [("trace", b"\x03")])
    topic.produce(article("a", 1, 0), "a", 0, 1_740_787_300_000, [("trace", b"\x04")])
    topic.flush()
    job.go()


def test_the_record_timestamp_as_event_time(make_job):
    job = make_job(
        columns={"id": "string", "title": "string", "at": "timestamptz"},
        rules={"event_time": "at", "metadata": {"at": "timestamp"}, "order_by": ()},
    )
    job.init()
    for i, id in enumerate(["a", "b", "a"]):
        job.topic.produce({"id": id, "title": str(i)}, id, 0, 1_740_787_200_000 + i)
    job.topic.flush()
    job.go()
