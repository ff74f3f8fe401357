"""Increments whose updates are of recent ids, onto a small table and onto the same table grown large.

What they cost must not depend on the size: files are ruled out by the bounds of ids that are in the order of
time, or, where ids are random, by event times below the watermark.
"""

from measure import account, content
from measure.rig import produce
from measure.tidegate import Tidegate
from measure.works import INCREMENTS

WAYS = {"ordered ids": (True, ""), "match = watermark": (False, 'match = "watermark"')}
# Updates reach back an increment, which is less of the workload's one day than this.
DELAY = 'delay = "4 h"'
GROWTH = 5


def recent(rig, options):
    """A row of medians for each way and size."""
    small = options.records // GROWTH
    rows = []
    for way, (ordered, match) in WAYS.items():
        topic = f"articles-recent-{'ordered' if ordered else 'random'}"
        workload = rig.workload(topic, options.records, ordered)
        table = Tidegate(rig, topic, merge=match, watermark=DELAY)
        for size in (small, options.records - small):
            produce("grow", workload.only_new, size)
            table.fill("grow", size)
            rows.append(increments(rig, options, workload, table, way))
    return rows


def increments(rig, options, workload, table, way):
    work = f"W2 of recent ids, {way}, on {len(workload.made):,} rows"
    runs = []
    for _ in range(INCREMENTS):
        produce(work, lambda size: workload.w2(size, options.increment), options.increment)
        runs.append(table.run(work, options.increment))
        content.check(work, table.metadata(), workload.truth())
    return account.medians(runs)
