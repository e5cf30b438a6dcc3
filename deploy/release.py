"""Build what a release consists of and check it: `make release`. Nothing is uploaded.

Into `dist/` go the source distribution, the wheel that is made from it, `cpu.lock` with the `install.sh` that installs
both, and `sbom.json`, a CycloneDX list of the locked packages with their licences. Checked are the wheel's files, which
are to be the tree's, its metadata, and that the changelog begins with a heading for the version.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = (
    "atlas_ray", "envs", "configs", "jobs", "requirements", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE",
    "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "cluster.yaml",
)  # fmt: skip
"""What a source distribution is made from."""
_BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]))"


def build(dist: Path) -> tuple[Path, Path]:
    """Build both distributions into an existing folder, the wheel from the source distribution; returns their paths.

    The tree is copied first, so that nothing is left in it, and nothing but what is named gets in. Beside them lie the
    lock and its installer.
    """
    for name in ("cpu.lock", "install.sh"):
        shutil.copy(ROOT / "requirements" / name, dist)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        for name in SOURCES:
            source, ignore = ROOT / name, shutil.ignore_patterns("__pycache__", "*.egg-info")
            if source.is_dir():
                shutil.copytree(source, tree / name, symlinks=True, ignore=ignore)
            else:
                shutil.copy(source, tree / name)
        sdist = dist / _built("sdist", tree, dist)
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        return sdist, dist / _built("wheel", Path(scratch) / sdist.name.removesuffix(".tar.gz"), dist)


def _built(kind: str, tree: Path, dist: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _BUILD.format(kind), str(dist.absolute())], cwd=tree, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"error: the {kind} cannot be built: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1]


def package_files() -> set[str]:
    """The files that a wheel has to have: all of the two packages, those of `atlas_ray/configs` included."""
    return {
        str(file.relative_to(ROOT))
        for package in ("atlas_ray", "atlas_ray/configs", "envs")
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def faults(wheel: Path) -> Iterator[str]:
    """What is wrong with a wheel, a line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (place,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(archive.read(place).decode())
    yield from (f"{name} is missing in the wheel" for name in sorted(package_files() - names))
    yield from (f"{name} is in the wheel and not in the tree" for name in sorted(names - package_files()))
    version = about["Version"]
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        yield f"version {version} is not of the form 1.2.3 or 1.2.3rc1"
    for field in ("Summary", "License-Expression", "Requires-Python", "Description-Content-Type"):
        if not about[field]:
            yield f"the metadata have no {field}"
    for link in re.findall(r"\]\((?!https?://|#)([^)]+)\)", str(about.get_payload())):
        if not (ROOT / link.partition("#")[0]).exists():
            yield f"README.md links to {link}, which is not there"


def sbom() -> dict[str, object]:
    """The packages of `requirements/cpu.lock` with their licences, in CycloneDX 1.6."""
    lock = (ROOT / "requirements" / "cpu.lock").read_text()
    pins = sorted(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "components": [
            {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}",
             "licenses": [{"license": {"name": _licence(name)}}]}
            for name, version in pins
        ],
    }  # fmt: skip


def _licence(package: str) -> str:
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return "not installed here"
    named = [each.rpartition(" :: ")[2] for each in about.get_all("Classifier", []) if each.startswith("License")]
    return str(about["License-Expression"] or ", ".join(named) or (about["License"] or "NOASSERTION").splitlines()[0])


def main() -> None:
    """Build, check, write the list of packages."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    sdist, wheel = build(dist)
    found = list(faults(wheel))
    version = wheel.name.split("-")[1]
    if re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:1] != [version]:
        found.append(f"CHANGELOG.md does not begin with a heading for {version}")
    (dist / "sbom.json").write_text(json.dumps(sbom(), indent=1) + "\n")
    if found:
        sys.exit("\n".join(f"error: {line}" for line in found))
    print(f"{sdist}\n{wheel}\n{dist / 'sbom.json'}")


if __name__ == "__main__":
    main()
