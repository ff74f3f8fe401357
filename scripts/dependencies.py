"""Holds the locked dependencies against `deny.toml`: licences, bans and sources, with nothing to install."""

import json
import re
import subprocess
import sys
import tomllib

TARGET = "x86_64-unknown-linux-gnu"
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    users = {}
    for node in metadata["resolve"]["nodes"]:
        for dependency in node["dependencies"]:
            users.setdefault(dependency, set()).add(packages[node["id"]]["name"])
    wrong = []
    for id in (node["id"] for node in metadata["resolve"]["nodes"]):
        name, version = packages[id]["name"], packages[id]["version"]
        # Cargo's old way to write OR.
        licence = (packages[id]["license"] or "none").replace("/", " OR ")
        if not permitted(licence, allowed(rules["licenses"], name)):
            wrong.append(f"{name} {version}: licence {licence}")
        if packages[id]["source"] not in (None, CRATES_IO):
            wrong.append(f"{name} {version}: from {packages[id]['source']}")
        for ban in rules["bans"].get("deny", []):
            if ban["crate"] == name and not users.get(id, set()) <= set(ban.get("wrappers", [])):
                wrong.append(f"{name} {version}: used by {sorted(users[id])}; {ban['reason']}")
    print("\n".join(wrong), end="\n" if wrong else "")
    sys.exit(bool(wrong))


def allowed(licences, name):
    more = [entry["allow"] for entry in licences.get("exceptions", []) if entry["crate"] == name]
    return set(licences["allow"]).union(*more)


def permitted(expression, allowed):
    """Whether an SPDX expression can be met; AND binds more tightly than OR."""
    while (inner := re.search(r"\(([^()]*)\)", expression)) is not None:
        met = "MET" if permitted(inner[1], allowed) else "NOT-MET"
        expression = expression[: inner.start()] + met + expression[inner.end() :]
    choices = [choice.split(" AND ") for choice in expression.split(" OR ")]
    return any(all(part.strip() in allowed | {"MET"} for part in choice) for choice in choices)


main()
