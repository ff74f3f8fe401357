"""The goals that were set for the full size, and what this call found. A goal that is missed is reported."""

MEMORY_LIMIT_MIB = 1024
FULL_RECORDS, FULL_INCREMENT = 5_000_000, 100_000
W1_CPU_S_PER_MILLION = {"zstd": 6.0, "snappy": 4.5}


def goals(report):
    """Each as a name, the most that it allows or the least, and what was found; those that were tried."""
    workload, ratios = report["workload"], report["ratios"]
    own = {row["work"]: row for row in report["results"] if row["tool"] == "tidegate"}
    found = []

    def at_most(name, limit, value):
        if value is not None:
            found.append({"goal": name, "at_most": limit, "found": value, "met": value <= limit})

    def at_least(name, limit, value):
        if value is not None:
            found.append({"goal": name, "at_least": limit, "found": value, "met": value >= limit})

    if workload["records"] >= FULL_RECORDS:
        w1 = own["W1"]
        limit = W1_CPU_S_PER_MILLION[workload["codec"]]
        at_most("W1: CPU s per million", limit, w1["cpu_s_per_million"])
        name = "W1: wall, tidegate to the bare read"
        at_most(name, 1.5, ratios.get(name))
        name = "table after W1: bytes, tidegate to spark"
        at_most(name, 1.15, ratios.get(name))
        name = "append: CPU s, connect to tidegate"
        at_least(name, 4.0, ratios.get(name))
        if workload["increment"] == FULL_INCREMENT:
            at_most("W2: CPU s", 1.0, own["W2"]["cpu_s"])
            at_most("W2: wall, s", 1.0, own["W2"]["wall_s"])
    for work, row in own.items():
        if work.startswith("W1"):
            limit = row.get("memory_limit_mib", MEMORY_LIMIT_MIB)
            at_most(f"{work}: peak RSS, MiB", limit, row["peak_rss_mib"])
        if work.startswith("W2"):
            asked = sum(row[f"requests_{kind}"] for kind in ("get", "put", "delete", "list", "head"))
            at_most(f"{work}: requests", 10 + 4 * row["files_searched"], asked)
    at_most("nothing new: wall, s", 0.1, own["nothing new"]["wall_s"])
    at_most("nothing new: peak RSS, MiB", 50, own["nothing new"]["peak_rss_mib"])
    for name, value in ratios.items():
        if name.startswith("read by "):
            at_most(name, 1.0, value)
        if name.startswith("W2 on ") and ": cpu_s" in name and workload["increment"] == FULL_INCREMENT:
            at_most(name, 3.0, value)
        if name.startswith("W2 of recent ids") and ": cpu_s" in name and workload["records"] >= FULL_RECORDS:
            # Five times the rows; the rest is the noise of a second's measurement, and a few manifests.
            at_most(name, 1.25, value)
    return found


def lines(found):
    for goal in found:
        way = "at_most" if "at_most" in goal else "at_least"
        verdict = "met" if goal["met"] else "MISSED"
        yield f"goal, {way.replace('_', ' ')} {goal[way]:g}: {goal['goal']}: {goal['found']:g}: {verdict}"
