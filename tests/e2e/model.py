"""The oracle: what the table must hold, folded from the produced records by a plain dictionary.

It knows nothing of files, plans or retries. From the table it takes only which ranges were committed
(the snapshot summaries), and it checks those too: ranges that do not meet, accounts that do not
balance and a watermark that differs from the rule fail the test, even where the rows are right.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from values import Rejected, from_json, load_object

OUTCOMES = ("rejected", "late", "filtered", "duplicate", "stale", "inserted", "updated", "deleted", "noop")
COUNTS = ("read", *OUTCOMES, "collapsed", "soft_deleted")

METADATA = {
    "offset": lambda r: r.offset,
    "partition": lambda r: r.partition,
    "topic": lambda r: r.topic,
    "timestamp": lambda r: (
        None if r.timestamp_ms == -1 else datetime.fromtimestamp(r.timestamp_ms / 1000, UTC)
    ),
    "key": lambda r: r.key,
    "headers": lambda r: tuple(sorted(r.headers)),
    "sha256": lambda r: hashlib.sha256(r.value or b"").hexdigest(),
}


@dataclass
class Rules:
    """The parts of a job file that decide what the table holds."""

    job: str
    columns: dict
    id: tuple = ("id",)
    event_time: str = "published_at"
    order_by: tuple = ("version",)
    ties: str = "replace"
    delay: timedelta = timedelta(hours=2)
    late: str = "reject"
    max_future: timedelta = timedelta(hours=1)
    tombstones: str | None = None
    deleted_column: str | None = None
    metadata: dict = field(default_factory=dict)
    epoch_unit: str = "ms"
    required: tuple = ()
    append: bool = False


@dataclass
class State:
    """Everything that a rollback of the table takes back."""

    rows: dict = field(default_factory=dict)
    rejects: dict = field(default_factory=dict)
    watermark: datetime | None = None
    highest: dict = field(default_factory=dict)
    offsets: dict | None = None
    epoch: int = 0
    batch: int = 0

    def copy(self):
        # Shallow: versions and records are never changed, only replaced.
        return replace(self, rows=dict(self.rows), rejects=dict(self.rejects), highest=dict(self.highest))


@dataclass
class Version:
    """One decoded record: where it belongs, how it compares, what it would store."""

    id: tuple
    rank: tuple
    event_time: datetime
    row: dict | None
    record: object


def order(value):
    return (value is not None, value)


class Model:
    def __init__(self, rules, topic):
        self.rules = rules
        self.topic = topic
        self.state = State()
        self.known = {}
        self.unnumbered = 0
        # Set to False where the topic grows while it is read: then the watermark is only bounded.
        self.ends_known = True

    # --- following the table

    def follow(self, metadata, start=None, branch="main"):
        """Applies every batch that the table's branch holds and this model has not seen."""
        ends = self.topic.ends()
        fresh, snapshot = [], metadata.snapshot_by_name(branch)
        while snapshot is not None and snapshot.snapshot_id not in self.known:
            fresh.append(snapshot)
            parent = snapshot.parent_snapshot_id
            snapshot = metadata.snapshot_by_id(parent) if parent is not None else None
        if snapshot is not None:
            # The newest snapshot that we know, which after a rollback is not the last one we saw.
            self.state = self.known[snapshot.snapshot_id].copy()
        for snapshot in reversed(fresh):
            summary = snapshot.summary.additional_properties
            if summary.get("tidegate.job") == self.rules.job:
                if summary["tidegate.kind"] == "reset":
                    self.reset(summary, ends)
                else:
                    self.apply(summary, ends, start)
            self.known[snapshot.snapshot_id] = self.state.copy()

    def foreign(self, metadata, change):
        """Another engine changed rows by a commit of its own."""
        change(self.state.rows)
        self.known[metadata.current_snapshot_id] = self.state.copy()

    def apply(self, summary, ends, start):
        first, last = self.range(summary)
        before = self.state.offsets
        if before is None:
            before = start if start is not None else dict.fromkeys(first, 0)
        assert first == {p: before.get(p, 0) for p in first}, "ranges must meet without gap or overlap"
        assert set(before) <= set(first), "a partition once known stays known"
        assert all(first[p] <= last[p] <= ends[p] for p in first), (first, last, ends)
        self.state.batch += 1
        assert int(summary["tidegate.batch"]) == self.state.batch
        assert int(summary["tidegate.epoch"]) == self.state.epoch

        now = datetime.fromisoformat(summary["tidegate.planned-at"])
        counts = self.fold(first, last, now)
        said = {name: int(summary[f"tidegate.records.{name.replace('_', '-')}"]) for name in COUNTS}
        assert said == counts, f"batch {self.state.batch}: said {said}, expected {counts}"
        assert said["read"] == sum(said[name] for name in OUTCOMES)

        self.state.offsets = last
        said = summary.get("tidegate.watermark")
        said = datetime.fromisoformat(said) if said else None
        if self.ends_known:
            self.advance(last, ends)
            assert said == self.state.watermark, "watermark"
        elif said != self.state.watermark:
            highest = max(self.state.highest.values()) - self.rules.delay
            assert (self.state.watermark or said) <= said <= highest, "watermark"
            self.state.watermark = said

    def range(self, summary):
        return (
            {int(p): o for p, o in json.loads(summary[f"tidegate.offsets.{side}"])[self.topic.name].items()}
            for side in ("start", "end")
        )

    def reset(self, summary, ends):
        """The job goes on elsewhere: a new epoch, no row, and no watermark but a given one."""
        first, last = self.range(summary)
        assert first == last and set(last) == set(ends)
        assert all(0 <= last[p] <= ends[p] for p in last), (last, ends)
        assert all(summary.get(f"tidegate.records.{name}", "0") == "0" for name in COUNTS)
        epoch, batch = (int(summary[f"tidegate.{key}"]) for key in ("epoch", "batch"))
        assert epoch > self.state.epoch
        given = summary.get("tidegate.watermark")
        self.state.watermark = datetime.fromisoformat(given) if given else None
        self.state.offsets, self.state.highest = last, {}
        self.state.epoch, self.state.batch = epoch, batch

    # --- one batch

    def fold(self, first, last, now):
        counts = dict.fromkeys(COUNTS, 0)
        winners, versions = {}, []
        judged_by = self.state.watermark
        for record in self.records(first, last):
            counts["read"] += 1
            try:
                version = self.decode(record)
                if version.event_time > now + self.rules.max_future:
                    raise Rejected("future")
            except Rejected as e:
                counts["rejected"] += 1
                self.reject(record, "future" if str(e) == "future" else None)
                continue
            seen = self.state.highest.get(record.partition)
            self.state.highest[record.partition] = max(seen or version.event_time, version.event_time)
            if judged_by and version.event_time < judged_by and self.rules.late != "merge":
                counts["late"] += 1
                if self.rules.late == "reject":
                    self.reject(record, "late")
                continue
            if self.rules.append:
                self.unnumbered += 1
                self.state.rows[self.unnumbered] = version
                counts["inserted"] += 1
                continue
            versions.append(version)
            rival = winners.get(version.id)
            if rival:
                counts["duplicate"] += 1
            if not rival or self.wins(version, rival, within_batch=True):
                winners[version.id] = version
        before = dict(self.state.rows)
        for version in winners.values():
            outcome = self.store(version)
            counts[outcome] += 1
            if self.rules.deleted_column and version.row is None and outcome in ("inserted", "updated"):
                counts["soft_deleted"] += 1
        if self.rules.deleted_column:
            # A deleted row keeps what it had, so one record after the other says what that is.
            self.state.rows = before
            for version in versions:
                self.store(version)
        return counts

    def records(self, first, last):
        for partition, log in sorted(self.topic.log.items()):
            if partition in first:
                for offset in sorted(log):
                    if first[partition] <= offset < last[partition]:
                        yield log[offset]

    def wins(self, new, old, within_batch):
        if new.rank != old.rank:
            return new.rank > old.rank
        if not within_batch:
            return self.rules.ties == "replace"
        here, there = ((v.record.topic, v.record.partition, v.record.offset) for v in (new, old))
        return here > there if self.rules.ties == "replace" else here < there

    def store(self, version):
        stored = self.state.rows.get(version.id)
        if stored and not self.wins(version, stored, within_batch=False):
            return "stale"
        if version.row is None and self.rules.deleted_column:
            version = replace(version, row=self.deleted(version, stored))
        if version.row is None:
            return "deleted" if self.state.rows.pop(version.id, None) else "noop"
        self.state.rows[version.id] = version
        return "updated" if stored else "inserted"

    def deleted(self, version, stored):
        """The row that a soft delete leaves: what the record says, and else what the row held."""
        rules = self.rules
        row = dict(stored.row) if stored else dict.fromkeys(rules.columns)
        row |= {
            name: METADATA[kind](version.record) for name, kind in rules.metadata.items() if kind != "sha256"
        }
        row |= dict.fromkeys(rules.order_by) | dict(zip(rules.id, version.id, strict=True))
        return row | {rules.event_time: version.event_time, rules.deleted_column: True}

    def decode(self, record):
        rules = self.rules
        if record.value is None and rules.tombstones == "delete":
            moment = METADATA["timestamp"](record)
            if record.key is None or moment is None:
                raise Rejected("no id, or no time")
            # A tombstone has no columns to order by, and null is the lowest.
            rank = (order(moment), *(order(None) for _ in rules.order_by))
            return Version((record.key.decode(),), rank, moment, None, record)
        if record.value is None:
            raise Rejected("no value")
        found = load_object(record.value)
        row = {}
        for name, kind in rules.columns.items():
            source = rules.metadata.get(name)
            row[name] = (
                METADATA[source](record) if source else from_json(found.get(name), kind, rules.epoch_unit)
            )
        if rules.deleted_column:
            row[rules.deleted_column] = bool(row[rules.deleted_column])
        if any(row[name] is None for name in (*rules.id, rules.event_time, *rules.required)):
            raise Rejected("a required column is null")
        rank = tuple(order(row[name]) for name in (rules.event_time, *rules.order_by))
        return Version(tuple(row[name] for name in rules.id), rank, row[rules.event_time], row, record)

    def reject(self, record, reason):
        place = (record.topic, record.partition, record.offset, self.state.epoch)
        assert place not in self.state.rejects, "judged twice"
        self.state.rejects[place] = (record, reason, self.state.batch)

    def advance(self, last, ends):
        state = self.state
        behind = [p for p in last if last[p] < ends[p]]
        if behind:
            if any(p not in state.highest for p in behind):
                return
            candidate = min(state.highest[p] for p in behind)
        elif state.highest:
            candidate = max(state.highest.values())
        else:
            return
        candidate -= self.rules.delay
        state.watermark = max(state.watermark or candidate, candidate)

    # --- what readers must see

    def rows(self):
        names = list(self.rules.columns)
        found = [tuple(v.row[name] for name in names) for v in self.state.rows.values()]
        return sorted(found, key=repr)

    def rejects(self):
        found = self.state.rejects.items()
        return sorted(
            (*place, r.key, r.value, self.rules.job, epoch, batch) for (*place, epoch), (r, _, batch) in found
        )
