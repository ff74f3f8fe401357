"""The result as a plot: for each work its CPU seconds and its wall, a bar for each tool.

An SVG without a background, whose colours follow the reader's light or dark mode.
"""

from xml.sax.saxutils import escape

WIDTH, MARGIN, GAP = 880, 20, 40
NAME, VALUE = 80, 70
BAR, PITCH = 14, 22
TITLE_SPACE, HEAD_SPACE, FOOT_SPACE = 30, 50, 50

STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #1f2328; }
    .head { font-size: 16px; font-weight: 600; }
    .title { font-weight: 600; }
    .note { fill: #59636e; }
    .bar { fill: #8c959f; }
    .own { fill: #0a7d8c; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .note { fill: #9198a1; }
      .bar { fill: #6e7681; }
      .own { fill: #39c5cf; }
    }
"""


def svg(report):
    y, body = HEAD_SPACE, []
    for work, rows in by_work(report["results"]).items():
        drawn = [panel(*at, y, rows) for at in panels(work, rows)]
        body += [line for lines in drawn for line in lines]
        y += TITLE_SPACE + PITCH * len(rows) + 16
    machine, height = report["machine"], y + FOOT_SPACE - 16
    made = report["made"][:10]
    notes = (
        f"Shorter is better; each panel has its own scale. Medians; W1: {report['workload']['records']:,} "
        f"records, W2: {report['workload']['increment']:,}; {report['workload']['codec']}.",
        f"{made}, commit {report['commit']}, {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB.",
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Cost of tidegate and its peers">',
        f"  <style>{STYLE}  </style>",
        text(MARGIN, 28, "tidegate and its peers", "head"),
        *body,
        *(text(MARGIN, y + 6 + 18 * n, note, "note") for n, note in enumerate(notes)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def by_work(rows):
    found = {}
    for row in rows:
        found.setdefault(row["work"], []).append(row)
    return found


def panels(work, rows):
    """Where each panel of a work begins, what it is called, and the figure that it shows."""
    half = (WIDTH - 2 * MARGIN - GAP) / 2
    cpu = "cpu_s_per_million" if work in ("W1", "append") else "cpu_s"
    title = "CPU s per million records" if cpu == "cpu_s_per_million" else "CPU s"
    if all(row.get(cpu) is not None for row in rows):
        yield MARGIN, half, f"{work}: {title}", cpu
    yield MARGIN + half + GAP, half, f"{work}: wall, s", "wall_s"


def panel(x, width, title, figure, y, rows):
    longest = max(row[figure] for row in rows) or 1
    room = width - NAME - VALUE
    lines = [text(x, y + 14, title, "title")]
    for n, row in enumerate(rows):
        top = y + TITLE_SPACE + PITCH * n - 6
        long = max(room * row[figure] / longest, 1)
        kind = "bar own" if row["tool"] == "tidegate" else "bar"
        lines += [
            text(x, top + 11, row["tool"]),
            f'  <rect class="{kind}" x="{x + NAME:.1f}" y="{top}" width="{long:.1f}" height="{BAR}" rx="2"/>',
            text(x + NAME + long + 6, top + 11, number(row[figure])),
        ]
    return lines


def number(value):
    """Three digits, but all of those before the point."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}"


def text(x, y, content, kind=None):
    name = f' class="{kind}"' if kind else ""
    return f'  <text{name} x="{x:.1f}" y="{y}">{escape(content)}</text>'
