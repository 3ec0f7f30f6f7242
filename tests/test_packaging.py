"""Pins, wheel contents and container recipes agree with each other."""

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import find_namespace_packages

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))

INSTALLED = {canonicalize_name(distribution.name) for distribution in importlib.metadata.distributions()}


def requirements() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    texts = [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != "expunge"]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_is_pinned_to_a_version_it_allows(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_torch_has_its_exact_pin_in_both_places():
    assert PINS["torch"] == "2.13.0"
    assert "torch==2.13.0" in PROJECT["project"]["optional-dependencies"]["worker"]


@pytest.mark.parametrize("name", sorted(INSTALLED & PINS.keys()))
def test_what_is_installed_is_what_is_pinned(name):
    assert Version(importlib.metadata.version(name)).public == PINS[name]


def test_a_plain_installation_is_without_torch():
    names = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}
    assert not names & {"torch", "torch-geometric", "scipy", "scikit-learn", "pyarrow"}


def test_the_wheel_holds_the_migrations():
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = find_namespace_packages(str(ROOT), include=include)
    assert {"app.cli.demo", "migrations", "migrations.versions", "models", "unlearning"} <= set(packages)
    assert not {package for package in packages if package.startswith(("tests", "benchmarks"))}
    assert PROJECT["tool"]["setuptools"]["package-data"]["migrations"] == ["*.mako"]


def test_the_container_build_sees_what_it_copies():
    recipe = (ROOT / "Dockerfile").read_text()
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", recipe, flags=re.MULTILINE)
        for name in line.split()[:-1]
    }
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE))
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_compose_builds_the_targets_of_the_dockerfile():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    targets = {service["build"]["target"] for service in services.values() if "build" in service}
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    assert targets == {"api", "worker"}
    assert targets <= stages


def test_ci_runs_lint_and_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert {"make lint", "make test"} <= set(script.read_text().splitlines())


def test_the_hooks_run_what_ci_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == ["make lint", "make test"]
