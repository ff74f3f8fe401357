"""Builds that are wrong on purpose: a campaign that does not notice them proves nothing.

Each is the source tree with one check taken out. The patch names the exact text: when it is no longer there,
that is an error, and the mutant has to be thought through again.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from faults import strikes
from faults.campaign import Campaign

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("src", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "README.md", "LICENSE", "jobs")


@dataclass
class Mutant:
    name: str
    file: str
    old: str
    new: str
    campaign: Campaign


MUTANTS = (
    Mutant(
        "the state is not checked again before the next attempt",
        "src/job/commit.rs",
        "if state.snapshot_id() != self.pulled.state.snapshot_id() {",
        "if state.head.is_none() {",
        Campaign("mutant, runs overlap", strikes.runs_overlap, 60, 0, kinds=("append",)),
    ),
    Mutant(
        "a commit without an answer is taken for a refused one",
        "src/job/commit.rs",
        "self.unclear = true;",
        "self.delete(&tried.written).await;",
        Campaign("mutant, answer lost", strikes.answer_lost, 10, 0),
    ),
    Mutant(
        "a run starts one offset after the end of the last one",
        "src/plan.rs",
        "let start = start_of(input, partition, bounds, known)?;",
        "let known = known.map(|next| (next + 1).min(bounds.high_watermark));\n"
        "let start = start_of(input, partition, bounds, known)?;",
        Campaign("mutant, kill at random", strikes.kill_at_random, 10, 0),
    ),
    Mutant(
        "rejects are appended without a mark that says so",
        "src/rejects/mod.rs",
        "updates: vec![set_property(key(&self.job), value)],",
        "updates: Vec::new(),",
        Campaign("mutant, kill in each phase", strikes.kill_in_each_phase, 30, 0),
    ),
)


def misfits():
    """Mutants whose text is no longer in the code, or is there twice."""
    return [mutant for mutant in MUTANTS if (ROOT / mutant.file).read_text().count(mutant.old) != 1]


def link(source, target):
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)


def build(mutant, directory, binary):
    """The mutant's binary, of the same profile as the healthy one."""
    profile = binary.parent.name
    tree = directory / "mutant"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tree / name)
    file = tree / mutant.file
    file.write_text(file.read_text().replace(mutant.old, mutant.new))
    target = directory / "mutant-target"
    if not target.exists():
        # The dependencies need not be built again. What cargo writes in place is copied, the rest shared.
        for part, take in (("deps", link), ("build", link), (".fingerprint", shutil.copy2)):
            if (binary.parent / part).is_dir():
                shutil.copytree(
                    binary.parent / part,
                    target / profile / part,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("tidegate-*", "libtidegate-*", "it-*", "*.dwo"),
                    copy_function=take,
                )
    command = ["cargo", "build", "--locked", "--offline", "--bin", "tidegate"]
    command += ["--release"] if profile == "release" else []
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"mutant `{mutant.name}` does not compile:\n{done.stderr[-3000:]}"
    return target / profile / "tidegate"
