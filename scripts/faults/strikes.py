"""The faults. Each makes one or more runs and answers the phases in which they were hit."""

import contextlib
import resource
import signal
import struct
import time

from confluent_kafka import KafkaException
from faults.campaign import expect
from faults.process import PHASES

# What a run that met a fault and was not killed by it may say: done, or try again.
OK, AGAIN = 0, 75
DAY_S = 86_400
LEADERS_S = 180
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Niue")

KILLS = ("kill-before", "kill-half", "kill-after")
# Where each phase does its work on the disk: (phase of the log, operation, part of the path, highest number).
WRITES = (
    ("*", "write", ".parquet", 4),
    ("*", "sync", ".parquet", 4),
    ("commit", "write", ".avro", 3),
    ("commit", "sync", "/metadata", 4),
    ("commit", "write", ".metadata.json", 1),
)
SENDS = (
    ("commit", "lock", ".db", 2),
    ("commit", "write", ".db-journal", 6),
    ("commit", "sync", ".db", 3),
    ("commit", "write", "catalog.db", 8),
    ("commit", "unlink", "-journal", 1),
)
REJECTS = (
    ("rejects", "*", "*", 24),
    ("rejects", "unlink", "-journal", 1),
    ("rejects", "write", "catalog.db", 8),
)


# --- death


def kill_at_random(world):
    run = world.start()
    killed = run.kill_after(world.random.uniform(0, 1.1 * world.usual_s))
    return [run.phase() if killed else None]


def kill_in_each_phase(world):
    """The phases in turn, since a random moment seldom falls into the short ones."""
    hit = kill_in(world, PHASES[world.context.turn % len(PHASES)])
    world.context.turn += hit is not None
    return [hit]


def kill_in(world, phase):
    random = world.random
    if phase in ("plan", "pull"):
        run = world.start()
        run.await_phase(phase)
        # A plan waits for the broker; the pull of so few records is over at once.
        longest_s = 0.03 if phase == "plan" else 0.006
        return run.phase() if run.kill_after(random.uniform(0, longest_s)) else None
    if phase == "answer awaited":
        rule = "commit unlink -journal 1 kill-after"
    else:
        places = {"write": WRITES, "commit sent": SENDS, "rejects append": REJECTS}[phase]
        rule = choose(random, places, KILLS)
        if phase == "commit sent" and " unlink " in rule:
            rule = rule.replace("kill-after", "kill-before")
    run = world.start(rule)
    killed = run.wait() == -signal.SIGKILL
    return run.hit() if killed else None


def choose(random, places, actions):
    phase, operation, path, most = random.choice(places)
    return f"{phase} {operation} {path} {random.randint(1, most)} {random.choice(actions)}"


# --- the disk


def disk_error(world):
    """A call fails, or has its effect and says that it failed."""
    rule = choose(world.random, WRITES + SENDS + REJECTS, ("eio", "lost"))
    run = world.start(rule)
    expect(run, OK, AGAIN)
    return [run.hit()]


def answer_lost(world):
    """The commit is in the table, and what the run is told is an error."""
    run = world.start("commit unlink -journal 1 lost")
    expect(run, OK, AGAIN)
    return [run.hit()]


def disk_full(world):
    rule = choose(world.random, (*WRITES, *SENDS, *REJECTS, ("*", "write", "*", 30)), ("full",))
    run = world.start(
        rule.replace(" sync ", " write ").replace(" lock ", " write ").replace(" unlink ", " write ")
    )
    expect(run, OK, AGAIN)
    return [run.hit()]


def file_too_large(world):
    """The kernel's own limit: the write that passes it is cut short, and then ends the process or fails."""
    largest = world.random.randint(2_000, 20_000)
    deadly = world.random.random() < 0.5

    def limits():
        # Python ignores the signal, and a child would inherit that.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    run = world.start(limits=limits)
    code = expect(run, OK, AGAIN, -signal.SIGXFSZ)
    return [None if code == OK else run.failed_in()]


# --- memory


def too_little_memory(world):
    """An address space that the run does not fit into: it ends wherever it asks for more."""
    least, enough = world.memory_bytes()
    allowed = int(world.random.uniform(least, enough))

    def limits():
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    run = world.start(limits=limits)
    # No promise is made about how a run without memory ends, only about what it leaves.
    if run.wait() == OK:
        world.enough = allowed
        return [None]
    return [run.failed_in()]


# --- the network to the broker


def broker_out_of_reach(world):
    """Connections are reset, refused or silent for a while, in mid-run."""
    proxy, random = world.context.proxy, world.random
    proxy.delay(random.choice((0.0, 0.005, 0.03)))
    run = world.start()
    with contextlib.suppress(AssertionError):
        run.await_phase(random.choice(("plan", "pull", "pull")))
        time.sleep(random.uniform(0, 0.15))
    alive = run.child.poll() is None
    phase = run.phase()
    random.choice((proxy.cut, proxy.drop, lambda: proxy.cut(refuse=True), lambda: proxy.delay(0.3)))()
    # Now shorter, now longer than the run is ready to wait.
    time.sleep(random.choice((0.2, 1.0, 12.0)))
    proxy.heal()
    expect(run, OK, AGAIN)
    return [phase if alive else None]


def broker_restarted(world):
    """The broker is stopped, or killed, while a run pulls from it, and comes back."""
    proxy, broker, random = world.context.proxy, world.context.broker, world.random
    # So slow that a pull of a few records takes seconds.
    proxy.delay(0.2)
    run = world.start()
    run.await_phase("pull")
    time.sleep(random.uniform(0, 0.4))
    phase = run.phase() if run.child.poll() is None else None
    if phase == "pull":
        (broker.kill if random.random() < 0.5 else broker.stop)()
        time.sleep(random.uniform(0, 2))
        broker.start()
    proxy.heal()
    expect(run, OK, AGAIN)
    if phase == "pull":
        await_leaders(world.topic)
    return [phase if phase == "pull" else None]


def await_leaders(topic):
    """A broker that was killed answers long before it leads its partitions again."""
    deadline = time.monotonic() + LEADERS_S
    while True:
        try:
            return topic.ends()
        except KafkaException:
            assert time.monotonic() < deadline, f"{topic.name} has no leaders"
            time.sleep(0.2)


# --- the way to the catalog


def catalog_out_of_reach(world):
    """Another process holds the catalog's database while the run wants to load or to swap.

    A REST catalog will be cut off by a `Proxy` instead, as the broker is.
    """
    random = world.random
    moment = random.choice((None, "pull", "commit"))
    # Held longer than SQLite waits, or not, or until the run that waits is killed.
    held_s = random.choice((0.3, 0.3, 6.5))
    deadly = random.random() < 0.4
    run = world.start("commit lock catalog.db 1 stop" if moment == "commit" else None)
    if moment == "commit":
        run.await_stopped()
    elif moment:
        run.await_phase(moment)
    with world.lock("EXCLUSIVE" if moment is None else "IMMEDIATE"):
        run.signal(signal.SIGCONT)
        time.sleep(random.uniform(0, 0.3) if deadly else held_s)
        phase = run.phase() if run.child.poll() is None or held_s > 5 else None
        if deadly:
            run.signal(signal.SIGKILL)
    expect(run, OK, AGAIN, -signal.SIGKILL)
    return [phase]


# --- the clock of the process


def clock_stepped(world):
    """Forward and back by up to 300 days, from the start and in mid-run, in any time zone; some are killed.

    The shim does it, since libfaketime knows nothing of the waits of C11 threads, which librdkafka uses: a
    run would wait for the real clock to reach a moment of the wrong one.
    """
    random = world.random
    clock = world.directory / f"clock-{world.number}"
    clock.write_bytes(seconds_off(random))
    env = {"TZ": random.choice(ZONES), "FAULT_CLOCK": str(clock)}
    run = world.start(env=env)
    run.await_phase(random.choice(("plan", "pull", "write", "commit")))
    time.sleep(random.uniform(0, 0.01))
    phase = run.phase() if run.child.poll() is None else None
    with clock.open("r+b") as file:
        file.write(seconds_off(random))
    if random.random() < 0.3:
        run.kill_after(random.uniform(0, 0.05))
    expect(run, OK, -signal.SIGKILL)
    return [phase]


def seconds_off(random):
    # Not before the articles were published, or they would be of the future, and rejected as they should be.
    return struct.pack("=q", random.choice((-1, 1)) * random.randint(1, 300 * DAY_S))


# --- other writers


def runs_overlap(world):
    """Two to five runs at once; some stand still at a call while the others go on."""
    random = world.random
    places = WRITES + SENDS + REJECTS
    runs = []
    for _ in range(random.randint(2, 5)):
        rule = choose(random, places, ("stop",)) if random.random() < 0.6 else None
        runs.append(world.start(rule))
        time.sleep(random.choice((0, 0, 0.05)))
    beside = [run.phase() if run.child.poll() is None else None for run in runs]
    time.sleep(world.usual_s * random.uniform(0.5, 2))
    for run in random.sample(runs, len(runs)):
        run.signal(signal.SIGCONT)
        time.sleep(random.uniform(0, 0.05))
    hits = []
    for run, phase in zip(runs, beside, strict=True):
        while run.child.poll() is None:
            # One that comes to its call only now stops only now.
            run.signal(signal.SIGCONT)
            time.sleep(0.02)
        expect(run, OK, AGAIN)
        hits.append(run.hit() or phase)
    return hits
