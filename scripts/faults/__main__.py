"""Called by scripts/chaos with the Python environment; see there."""

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

# Before Spark's JVM starts: every reader and the truth speak UTC.
os.environ["TZ"] = "UTC"
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
time.tzset()
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "scripts")]

from faults import mutants, strikes  # noqa: E402
from faults.campaign import Campaign, Score  # noqa: E402
from faults.context import Context  # noqa: E402
from faults.process import AFTER, PHASES  # noqa: E402
from faults.spark_loops import Loops  # noqa: E402
from faults.world import KINDS  # noqa: E402

from jobs import BIN  # noqa: E402

HITS_MIN = 10
MERGES = tuple(kind for kind in KINDS if kind != "append")


def through_proxy(context):
    # An undisturbed run must do on a machine that does much else.
    limits = {"stall_timeout": "10 s"}
    return {"bootstrap": context.proxy.address, "sections": {"limits": limits}}


CAMPAIGNS = (
    Campaign("kill -9 at random times", strikes.kill_at_random, 200, 6),
    Campaign("kill -9 in each phase", strikes.kill_in_each_phase, 120, 8),
    Campaign("disk error", strikes.disk_error, 60, 3),
    Campaign("answer lost", strikes.answer_lost, 12, 1),
    Campaign("disk full", strikes.disk_full, 40, 2),
    Campaign("file too large", strikes.file_too_large, 24, 0),
    Campaign("too little memory", strikes.too_little_memory, 24, 1),
    Campaign("clock stepped, time zones", strikes.clock_stepped, 30, 3),
    Campaign("two to five runs overlap", strikes.runs_overlap, 60, 4),
    Campaign("catalog out of reach", strikes.catalog_out_of_reach, 24, 0),
    Campaign("broker out of reach", strikes.broker_out_of_reach, 30, 1, world=through_proxy),
    Campaign("broker restarted in mid-pull", strikes.broker_restarted, 8, 0, world=through_proxy),
    Campaign(
        "kill -9 beside Spark's compaction and MERGE",
        strikes.kill_at_random,
        30,
        0,
        kinds=MERGES,
        beside=lambda world: Loops(world, world.context.spark()),
    ),
)


def main():
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Real faults on real processes.")
    parser.add_argument("--quick", action="store_true", help="a few runs of most faults")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", metavar="REGEX", help="only faults with such a name")
    parser.add_argument("--out", type=Path, help="write the table as JSON, too")
    parser.add_argument("--keep", action="store_true", help="leave tables and logs behind")
    options = parser.parse_args()
    assert BIN.is_file(), f"no binary at {BIN}: build it, or set TIDEGATE_BIN"
    for mutant in mutants.misfits():
        sys.exit(f"{mutant.file} has changed: mutant `{mutant.name}` has to be thought through again")
    print(f"seed {options.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    context = Context(directory, BIN, options.seed, options.quick)
    try:
        scores, caught = campaigns(context, options)
    finally:
        context.close()
    failures = judge(scores, caught, context.cleaned, options)
    print(table(scores, caught, context.cleaned))
    if options.out:
        result = {"seed": options.seed, "quick": options.quick, "faults": [score.json() for score in scores]}
        result["cleaned"] = {"tables": len(context.cleaned), "orphans": sum(context.cleaned.values())}
        result["mutants"] = [{"mutant": mutant.name, **score.json()} for mutant, score in caught]
        options.out.write_text(json.dumps(result | {"failures": failures}, indent=2) + "\n")
    for failure in failures:
        print(f"FAILED: {failure}")
    if failures or options.keep:
        print(f"tables and logs: {directory}")
    else:
        shutil.rmtree(directory)
    sys.exit(bool(failures))


def campaigns(context, options):
    """All scores, and those of the mutants."""
    scores, caught = [], []
    for campaign in CAMPAIGNS:
        runs = campaign.quick if options.quick else campaign.runs
        if not runs or not re.search(options.only or "", campaign.name):
            continue
        scores.append(timed(context, campaign, runs))
        if not options.quick:
            context.clean_and_look()
    began = time.monotonic()
    context.clean_and_look()
    context.say(f"clean, and Spark's look: {time.monotonic() - began:.0f} s")
    if not options.quick:
        # What a mutant's build breaks must not take this away.
        context.say(table(scores, caught, context.cleaned))
        for mutant in mutants.MUTANTS:
            if re.search(options.only or "", mutant.campaign.name):
                caught.append((mutant, hunted(context, mutant)))
    return scores, caught


def hunted(context, mutant):
    """The score of a mutant's campaign, which ends when it is noticed."""
    try:
        context.binary = mutants.build(mutant, context.directory, BIN)
    except (AssertionError, OSError) as error:
        return Score(mutant.campaign.name, problems=[str(error)[-3000:]])
    score = timed(context, mutant.campaign, mutant.campaign.runs, until_noticed=True)
    context.unseen.clear()
    return score


def timed(context, campaign, runs, **how):
    began = time.monotonic()
    score = campaign.drive(context, runs, **how)
    seconds = time.monotonic() - began
    context.say(f"{campaign.name}: {score.runs} runs, {len(score.problems)} problems, {seconds:.0f} s")
    return score


def judge(scores, caught, cleaned, options):
    """Why the call fails, each in a sentence; nothing if it does not."""
    failures = []
    for score in scores:
        if score.noticed():
            failures.append(f"{score.name}: {score.lost} rows lost, {score.duplicate} rows duplicate")
        if score.survived < score.runs:
            failures.append(f"{score.name}: {score.runs - score.survived} of {score.runs} runs not survived")
        failures += score.problems
    if not options.quick and not options.only:
        hits = {phase: sum(score.phases[phase] for score in scores) for phase in PHASES}
        failures += [f"phase `{phase}` was hit {n} times only" for phase, n in hits.items() if n < HITS_MIN]
    if scores and not sum(cleaned.values()):
        failures.append("no run left an orphan: `clean` was not tried")
    for mutant, score in caught:
        if not score.noticed():
            failures += [f"not noticed: {mutant.name}", *score.problems]
    return failures


def table(scores, caught, cleaned):
    """Markdown."""
    head = ["fault", "runs", *PHASES, AFTER, "survived", "lost rows", "duplicate rows"]
    cells = [score.cells() for score in scores]
    sums = [["all", *map(sum, zip(*(row[1:] for row in cells), strict=True))]] if cells else []
    rows = [head, ["---"] * len(head), *cells, *sums]
    text = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"
    text += f"\nclean: took {sum(cleaned.values())} orphans of {len(cleaned)} tables"
    for mutant, score in caught:
        noticed = f"noticed after {score.runs} runs" if score.noticed() else "NOT NOTICED"
        text += f"\nmutant, {mutant.name}: {noticed} ({score.lost} rows lost, {score.duplicate} duplicate)"
    return text


if __name__ == "__main__":
    main()
