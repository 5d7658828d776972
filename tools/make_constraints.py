"""Prints constraints.txt: the installed version of every package that mossformer-jax and its extras need.

Run it in an environment in which the test suite has just passed:

    python tools/make_constraints.py > constraints.txt
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# The accelerator extras need large packages for other machines than the one that runs the tests. The documentation is
# built in a separate environment (see the Makefile).
UNTESTED_EXTRAS = {"cuda12", "docs", "tpu"}


def tested_versions(requirements: list[str]) -> dict[str, str]:
    """Resolves the requirements, including those of installed packages, and maps each package to its version."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [Requirement(line) for line in requirements]
    while pending:
        requirement = pending.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:  # required on another platform only, or optional
            continue
        versions[name] = Version(package.version).public  # without a local suffix such as +cpu
        for line in package.requires or []:
            dependency = Requirement(line)
            environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if dependency.marker is None or any(dependency.marker.evaluate(e) for e in environments):
                pending.append(dependency)
    return versions


def main() -> None:
    """Prints the constraints file."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra, lines in project["optional-dependencies"].items():
        if extra not in UNTESTED_EXTRAS:
            requirements += lines
    print("# The versions that mossformer-jax was tested with, made by tools/make_constraints.py. Use: pip install -c")
    for name, version in sorted(tested_versions(requirements).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
