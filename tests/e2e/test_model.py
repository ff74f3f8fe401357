"""The oracle itself, on cases small enough to be judged by eye."""

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from articles import BASE, article
from kafka import Record
from model import Model, Rules
from values import Rejected, from_json, parse_type

LATER = BASE + timedelta(days=1)


def model_of(*partitions, **rules):
    log = {
        p: {o: Record("t", p, o, 0, None, json.dumps(v).encode()) for o, v in enumerate(values)}
        for p, values in enumerate(partitions)
    }
    return Model(Rules("job", {"id": "string", "published_at": "timestamptz", "version": "long"}, **rules),
                 SimpleNamespace(name="t", log=log))  # fmt: skip


def fold(model, first, last):
    first, last = dict(enumerate(first)), dict(enumerate(last))
    counts = model.fold(first, last, LATER)
    model.advance(last, {p: len(log) for p, log in model.topic.log.items()})
    return {name: n for name, n in counts.items() if n}


def stored(model):
    return {id[0]: v.row["version"] for id, v in model.state.rows.items()}


def test_event_time_comes_before_version_and_version_before_arrival():
    model = model_of([article("a", 2, 1), article("a", 1, 9), article("a", 2, 3), article("a", 2, 2)])
    assert fold(model, [0], [4]) == {"read": 4, "duplicate": 3, "inserted": 1}
    assert stored(model) == {"a": 3}


def test_where_a_batch_is_cut_changes_only_the_accounts():
    values = [article("a", 2, 1), article("b", 1), article("a", 1, 9), article("b", 1), article("a", 2, 3)]
    whole, parts = model_of(values), model_of(values)
    fold(whole, [0], [5])
    for i in range(5):
        fold(parts, [i], [i + 1])
    assert whole.rows() == parts.rows()


def test_late_is_judged_by_the_watermark_of_the_batch_before():
    model = model_of([article("a", 300), article("b", 1), article("c", 1)])
    assert fold(model, [0], [2]) == {"read": 2, "inserted": 2}
    assert model.state.watermark == BASE + timedelta(hours=3)
    assert fold(model, [2], [3]) == {"read": 1, "late": 1}


def test_the_watermark_waits_for_partitions_that_lag():
    model = model_of([article("a", 1000)], [article("b", 10), article("c", 20)], [])
    fold(model, [0, 0, 0], [1, 1, 0])
    assert model.state.watermark == BASE + timedelta(minutes=10 - 120)
    fold(model, [1, 1, 0], [1, 2, 0])
    assert model.state.watermark == BASE + timedelta(minutes=1000 - 120)


def test_a_record_of_the_future_moves_no_watermark():
    model = model_of([article("a", 60 * 26)])
    assert fold(model, [0], [1]) == {"read": 1, "rejected": 1}
    assert model.state.watermark is None


def test_types():
    assert parse_type("struct<a: list<map<string, int>>, b: decimal(5, 2)>") == (
        "struct",
        [("a", "list<map<string, int>>"), ("b", "decimal(5, 2)")],
    )
    assert from_json({"k": 1, "a": None}, "map<string, long>") == (("a", None), ("k", 1))
    with pytest.raises(Rejected):
        from_json(2**31, "int")
