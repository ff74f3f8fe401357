"""Spark at work on a world's table while runs come and go: compaction and MERGE, over and over."""

import threading
from contextlib import contextmanager
from datetime import datetime

from faults.world import TABLE

REFUSALS_MAX = 200
MOMENT = datetime.fromisoformat("2025-03-01T00:00:00Z")


class Loops:
    """Two threads, as two engines: one compacts, one merges. `paused` waits for the statement at work."""

    def __init__(self, world, session):
        self.world = world
        self.session = world.job.warehouse.session(session)
        self.table = f"{world.job.warehouse.catalog}.{TABLE}"
        self.ended = threading.Event()
        self.locks = [threading.Lock(), threading.Lock()]
        self.commits = [0, 0]
        self.failure = None
        self.threads = [
            threading.Thread(target=self.loop, args=(number, work))
            for number, work in enumerate((self.compact, self.merge))
        ]

    @contextmanager
    def paused(self):
        with self.locks[0], self.locks[1]:
            yield

    def __enter__(self):
        # A table that another engine wrote first is refused, and rightly: the job comes first.
        problem = self.world.recover()
        assert not problem, problem
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        assert self.failure is None, f"Spark was refused {REFUSALS_MAX} times: {self.failure}"

    def loop(self, number, work):
        refused = 0
        while not self.ended.is_set() and refused < REFUSALS_MAX:
            with self.locks[number]:
                try:
                    work()
                    self.commits[number] += 1
                    refused = 0
                except Exception as error:  # Spark lost the race for the head, or found the database locked
                    refused += 1
                    if refused == REFUSALS_MAX:
                        self.failure = str(error)[:500]
            # A lock let go and taken at once is never had by the one who waits for it.
            self.ended.wait(0.05)

    def compact(self):
        options = "options => map('rewrite-all', 'true')"
        catalog = self.world.job.warehouse.catalog
        self.session.sql(f"CALL {catalog}.system.rewrite_data_files(table => '{TABLE}', {options})").collect()

    def merge(self):
        """One new row of Spark's own, and a few rows written again as they are."""
        number = self.commits[1]
        columns, values = "id, title, published_at, version", f"'spark-{number}', 'by spark', s.moment, 1"
        # Tried until it is in, so that what Spark said last is what the table holds.
        self.session.sql(f"""
            MERGE INTO {self.table} t
            USING (
                SELECT id, TIMESTAMP '2025-03-01 00:00:00' AS moment FROM (
                    SELECT 'spark-{number}' AS id
                    UNION ALL (SELECT id FROM {self.table} WHERE id LIKE 'a1%' LIMIT 20))
            ) s
            ON t.id = s.id
            WHEN MATCHED THEN UPDATE SET title = t.title
            WHEN NOT MATCHED AND s.id LIKE 'spark-%' THEN INSERT ({columns}) VALUES ({values})
        """).collect()
        self.world.foreign[
            f"spark-{number}", "by spark", datetime.fromisoformat("2025-03-01T00:00:00Z"), 1
        ] += 1
