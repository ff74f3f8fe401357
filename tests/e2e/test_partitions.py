"""Every partition transform, as Spark's own functions compute it."""

from datetime import timedelta

import pytest
from articles import article

# The partition field that `init` names, and what Spark says its value is.
TRANSFORMS = {
    "bucket(16, id)": ("id_bucket", "system.bucket(16, id)"),
    "bucket(7, version)": ("version_bucket", "system.bucket(7, version)"),
    "truncate(3, title)": ("title_trunc", "system.truncate(3, title)"),
    "truncate(10, small)": ("small_trunc", "system.truncate(10, small)"),
    "year(at_year)": ("at_year_year", "system.years(at_year)"),
    "month(at_month)": ("at_month_month", "system.months(at_month)"),
    "day(published_at)": ("published_at_day", "system.days(published_at)"),
    "hour(at_hour)": ("at_hour_hour", "system.hours(at_hour)"),
    "void(note)": ("note_null", "NULL"),
    "kind": ("kind", "kind"),
}
COLUMNS = {
    "id": "string",
    "title": "string",
    "published_at": "timestamptz",
    "version": "long",
    "small": "int",
    "at_year": "timestamptz",
    "at_month": "timestamptz",
    "at_hour": "timestamptz",
    "note": "string",
    "kind": "string",
}


def spread(number, version=1):
    moment = f"{1968 + number}-0{1 + number % 9}-28T23:59:59.999999Z"
    times = {"at_year": moment, "at_month": moment, "at_hour": moment}
    # Below zero the quotient must round down, and years before 1970 count backwards.
    more = {"small": 7 * number - 20, "note": "n", "kind": ["x y", "a/b", "\u00e6"][number % 3]}
    return article(f"id {number}", number * 700, version, f"\u00e6\U0001f30a{number}", **times, **more)


@pytest.mark.parametrize("version", [2, 3])
def test_each_transform_is_sparks(make_job, version):
    table = {"format_version": version, "partition_by": list(TRANSFORMS)}
    # Rows lie days apart, and none of their updates is late.
    job = make_job(columns=dict(COLUMNS), sections={"table": table}, rules={"delay": timedelta(days=3000)})
    job.init()
    nothing = {name: None for name in COLUMNS} | article("nothing but what must be", 1, title=None)
    job.topic.send([spread(number) for number in range(6)] + [nothing | {"title": None, "version": None}])
    job.go()
    # An update finds its row by the values of its partition.
    job.topic.send([spread(number, 2) for number in range(0, 6, 2)])
    assert job.go()["records"]["updated"] == 3
    differs = " OR ".join(f"NOT (_partition.{field} <=> {value})" for field, value in TRANSFORMS.values())
    catalog = job.warehouse.catalog
    name, differs = f"{catalog}.{job.table}", differs.replace("system.", f"{catalog}.system.")
    assert job.warehouse.sql(f"SELECT id, _partition FROM {name} WHERE {differs}") == []
    assert job.warehouse.sql(f"SELECT count(*) AS rows FROM {name}") == [{"rows": 7}]
