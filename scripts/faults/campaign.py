"""A campaign: faulty runs until so many were hit; each round ends with an undisturbed run and a look."""

import contextlib
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass, field

from faults.process import AFTER, PHASES
from faults.truth import Difference
from faults.world import KINDS, World

ROUNDS_OF_A_WORLD = 8
# A fault aimed at a moment that most runs do not have must not turn a campaign into an endless one.
TRIES_PER_HIT = 12


@dataclass
class Score:
    """What a campaign did; one row of the table."""

    name: str
    runs: int = 0
    phases: Counter = field(default_factory=Counter)
    survived: int = 0
    lost: int = 0
    duplicate: int = 0
    problems: list = field(default_factory=list)

    def blame(self, world, difference: Difference):
        self.lost += difference.lost
        self.duplicate += difference.duplicate
        self.problems.append(f"{world.directory}: " + "; ".join(difference.examples))

    def noticed(self):
        return bool(self.lost or self.duplicate)

    def cells(self):
        hits = [self.phases[phase] for phase in (*PHASES, AFTER)]
        return [self.name, self.runs, *hits, self.survived, self.lost, self.duplicate]

    def json(self):
        return {
            "fault": self.name,
            "runs": self.runs,
            "phases": {phase: self.phases[phase] for phase in (*PHASES, AFTER)},
            "survived": self.survived,
            "lost_rows": self.lost,
            "duplicate_rows": self.duplicate,
            "problems": self.problems,
        }


@dataclass
class Campaign:
    """`strike(world)` makes faulty runs and answers in which phase each was hit, None for a miss."""

    name: str
    strike: object
    runs: int
    quick: int
    kinds: tuple = tuple(KINDS)
    # Options of the worlds, from the context.
    world: object = lambda context: {}
    # Entered with each world: what goes on beside its runs.
    beside: object = lambda world: contextlib.nullcontext()

    def drive(self, context, runs, until_noticed=False):
        """`until_noticed` is for mutants: the first lost or duplicate row is enough."""
        score = Score(self.name)
        number, misses = context.next_kind, 0
        while score.runs < runs and not (until_noticed and score.noticed()):
            kind = self.kinds[number % len(self.kinds)]
            number += 1
            world = self.world_of(context, kind, number)
            with self.beside(world) as other:
                for _ in range(ROUNDS_OF_A_WORLD):
                    if score.runs >= runs:
                        break
                    hits = self.round(world, score)
                    with other.paused() if other else contextlib.nullcontext():
                        intact = judge(world, score, hits)
                    if not intact:
                        break
                    misses = 0 if hits else misses + 1
                    if misses > TRIES_PER_HIT:
                        score.problems.append(f"{world.directory.name}: {misses} rounds without a hit")
                        return score
            # Once a world is spoiled, what its other readers see adds nothing.
            if intact:
                context.unseen[world] = score
            else:
                context.forget(world)
        context.next_kind = number
        return score

    def world_of(self, context, kind, number):
        """A new world; in a quick call one that earlier campaigns have left whole."""
        options = self.world(context)
        key = (kind, bool(options))
        world = context.shared.get(key)
        if world is None:
            name = re.sub(r"\W+", "-", f"{self.name} {number} {kind}")
            world = World(context, name, kind, context.random.random(), **options)
            if context.quick:
                context.shared[key] = world
        return world

    def round(self, world, score):
        """One to three faulty runs, one after the other, on what one batch has to do."""
        world.send()
        hits = []
        for _ in range(world.random.randint(1, 3)):
            try:
                struck = self.strike(world)
            except (AssertionError, OSError, sqlite3.Error) as error:
                score.problems.append(f"{world.directory.name}: {error!r}")
                continue
            hits += [phase for phase in struck if phase]
        score.runs += len(hits)
        score.phases.update(hits)
        return len(hits)


def judge(world, score, hits):
    """The undisturbed run after the faults, and what it left."""
    problem = world.recover()
    if problem:
        score.problems.append(problem)
    difference = world.check()
    if difference:
        score.blame(world, difference)
    if problem or difference:
        return False
    score.survived += hits
    return True


def expect(run, *codes):
    """A run that was not killed must end in one of these ways."""
    code = run.wait()
    assert code in codes, f"{run.stderr_file}: exit {code}, expected one of {codes}\n{run.tail()}"
    return code
