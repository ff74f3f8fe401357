"""tidegate as one of the tools that are measured."""

import json
import os
import sys

from measure import content

BIN = os.environ["TIDEGATE_BIN"]

# `late = "merge"`: what must be in the table then does not depend on where batches are cut, and the
# peers that this is compared with keep late rows too.
JOB = """\
name = "bench"
mode = "{mode}"

[kafka]
topic = "{topic}"
"bootstrap.servers" = "{bootstrap}"

[format]
type = "json"

[catalog]
type = "sql"
uri = "sqlite://{database}"
warehouse = "file://{directory}/warehouse"

[table]
name = "bench.articles"
properties = {properties}
columns = [
  {{ name = "id", type = "string", required = true }},
  {{ name = "title", type = "string" }},
  {{ name = "source", type = "string" }},
  {{ name = "url", type = "string" }},
  {{ name = "content", type = "string" }},
  {{ name = "published_at", type = "timestamptz" }},
  {{ name = "version", type = "long" }},
]
"""
MERGE = """
[merge]
id = ["id"]
event_time = "published_at"
order_by = ["version"]
{merge}

[watermark]
late = "merge"
{watermark}
"""


class Tidegate:
    tool = "tidegate"

    def __init__(self, rig, topic, mode="merge", merge="", watermark="", memory_mib=None):
        """`merge` and `watermark`: further lines of these sections. `memory_mib`: `limits.memory_limit`."""
        self.rig = rig
        self.directory = rig.fresh("tidegate")
        (self.directory / "warehouse").mkdir()
        self.database = self.directory / "catalog.db"
        self.job = self.directory / "job.toml"
        properties = ", ".join(f'"{name}" = "{value}"' for name, value in rig.codec.items())
        job = JOB.format(
            mode=mode,
            topic=topic,
            bootstrap=rig.bootstrap,
            database=self.database,
            directory=self.directory,
            properties=f"{{ {properties} }}",
        )
        sections = MERGE.format(merge=merge, watermark=watermark) if mode == "merge" else ""
        if memory_mib:
            sections += f'\n[limits]\nmemory_limit = "{memory_mib} MiB"\n'
        self.job.write_text(job + sections)
        rig.run(self.tool, "init", [BIN, "init", self.job, "--output", "json"])

    def run(self, work, records=0):
        """One batch."""
        return self.measured(work, records, [])

    def fill(self, work, records):
        """Batch after batch, up to the end of the topic."""
        return self.measured(work, records, ["--drain"])

    def measured(self, work, records, arguments):
        """The row of figures, with what the run says of its search, its requests and its files."""
        command = [BIN, "run", self.job, "--output", "json", *arguments]
        row, printed = self.rig.run(self.tool, work, command, records)
        report = json.loads(printed)
        if (read := report["records"]["read"]) != records:
            sys.exit(f"tidegate, {work}: {read} records read instead of {records}")
        batches = report["batches"]
        row["batches"] = len(batches)
        row |= {f"requests_{name}": count for name, count in report["requests"].items()}
        for name in ("table_files", "files_searched", "files_indexed", "search_requests", "search_bytes"):
            row[name] = sum(batch["files"][name] for batch in batches)
        return row

    def metadata(self):
        return content.location(self.database, "articles")
