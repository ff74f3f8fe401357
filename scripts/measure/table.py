"""The result as ratios, as goals met or missed, and as Markdown."""

MIB = 2**20
HEAD = ("work", "tool", "n", "records", "wall s", "CPU s", "CPU s per million", "peak RSS MiB", "records/s")
HEAD += ("table MiB", "CPU, times tidegate's", "wall, times tidegate's")
RATIOS = ("cpu_s_ratio", "wall_s_ratio")


def compare(rows):
    """Adds to each row its cost in multiples of tidegate's in the same work."""
    own = {row["work"]: row for row in rows if row["tool"] == "tidegate"}
    for row in rows:
        base = own.get(row["work"], {})
        for ratio in RATIOS:
            name = ratio.removesuffix("_ratio")
            known = base.get(name) and row.get(name)
            row[ratio] = round(row[name] / base[name], 2) if known else None


def ratios(rows):
    """What the goals speak of, by name; those whose runs were made."""
    of = {(row["tool"], row["work"]): row for row in rows}
    found = {}

    def divide(name, above, below, figure):
        if above in of and below in of and of[below][figure]:
            found[name] = round(of[above][figure] / of[below][figure], 2)

    divide("W1: wall, tidegate to the bare read", ("tidegate", "W1"), ("bare read", "W1"), "wall_s")
    for peer in ("spark", "spark-cow"):
        for work in ("W1", "W2", "nothing new"):
            divide(f"{work}: CPU s, {peer} to tidegate", (peer, work), ("tidegate", work), "cpu_s")
            divide(f"{work}: wall, {peer} to tidegate", (peer, work), ("tidegate", work), "wall_s")
    divide("table after W1: bytes, tidegate to spark", ("tidegate", "W1"), ("spark", "W1"), "data_bytes")
    divide("append: CPU s, connect to tidegate", ("connect", "append"), ("tidegate", "append"), "cpu_s")
    recent = [row["work"] for row in rows if row["work"].startswith("W2 of recent ids")]
    for small, large in zip(recent[::2], recent[1::2], strict=True):
        for name in ("cpu_s", "wall_s", "search_bytes"):
            divide(f"{large}: {name}, to the small table", ("tidegate", large), ("tidegate", small), name)
    for row in rows:
        work = row["work"]
        if work.startswith("W2 on "):
            for name in ("cpu_s", "wall_s", "search_bytes"):
                divide(f"{work}: {name}, to W2", ("tidegate", work), ("tidegate", "W2"), name)
        if work.startswith("read by ") and row["tool"] == "tidegate":
            divide(f"{work}: tidegate's table to spark's", ("tidegate", work), ("spark", work), "wall_s")
    return found


def cells(row):
    def shown(value, form):
        return "-" if value in (None, 0) else format(value, form)

    return (
        row["work"],
        row["tool"],
        str(row["n"]),
        shown(row["records"], ",.0f"),
        shown(row["wall_s"], ".2f"),
        shown(row.get("cpu_s"), ".2f"),
        shown(row.get("cpu_s_per_million"), ".2f"),
        shown(row.get("peak_rss_mib"), ".0f"),
        shown(row.get("records_per_s"), ",.0f"),
        shown(row.get("data_bytes", 0) / MIB, ".0f"),
        *(shown(row[name], ",.0f" if (row[name] or 0) >= 10 else ".2f") for name in RATIOS),
    )


def markdown(report):
    machine = report["machine"]
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, load "
        f"{machine['load'][0]:.1f} at the start; tidegate {report['versions']['tidegate']}, "
        f"commit {report['commit']}; {report['workload']['codec']}; {report['made']}",
        "",
        "| " + " | ".join(HEAD) + " |",
        "| " + " | ".join(["---"] * len(HEAD)) + " |",
    ]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in report["results"]]
    lines += ["", *(f"{name}: {value}" for name, value in report["ratios"].items())]
    for row in report["results"]:
        if row["tool"] == "tidegate" and row["work"].startswith("W2"):
            lines.append(
                f"{row['work']}: {row['search_bytes']:,.0f} bytes read by the match, in "
                f"{row['files_searched']:.0f} of {row['table_files']:.0f} files; {row['requests_get']:.0f} "
                f"GET, {row['requests_put']:.0f} PUT, {row['requests_bytes_read']:,.0f} bytes read in all"
            )
    return "\n".join(lines)
