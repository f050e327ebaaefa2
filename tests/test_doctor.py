"""The doctor names what is wrong and the command that mends it."""

from __future__ import annotations

from dataclasses import replace

from suite.doctor import (
    LOCK,
    check_family,
    check_packages,
    check_python,
    check_rendering,
    doctor,
)
from suite.provenance import installed_version
from suite.tasks import Engine, Family, Lack, Task

FAMILY = Family(
    name="sea",
    title="Sea",
    tasks={"bay": Task("sea/bay", "discrete", 10, "sailing", "low", "-")},
    engines=(
        Engine("fast", ("fastsea", "water"), make=lambda task, seeds, split, threads: None),
        Engine("reference", ("sea",), make=lambda task, seeds, split, threads: None),
    ),
    install="pip install fastsea water",
)


def test_package_of_another_version_is_named_with_the_command_that_mends_it():
    lock = ["# a comment", "", "boat==1.2", "oar==3", "sail==4"]
    findings = check_packages(lock, {"boat": "1.2", "oar": "2"}.get)
    assert [(f.name, f.ok, f.detail, f.remedy) for f in findings] == [
        ("boat", True, "1.2", ""),
        ("oar", False, "2 instead of 3", "pip install --no-deps oar==3"),
        ("sail", False, "not installed", "pip install --no-deps sail==4"),
    ]


def test_family_runs_if_one_engine_is_complete():
    finding = check_family(FAMILY, {"sea": "1", "water": "1"}.get)
    assert finding.ok
    assert finding.detail == "runs on reference; fast lacks fastsea"
    assert finding.remedy == ""


def test_family_without_a_complete_engine_names_the_command_that_adds_it():
    finding = check_family(FAMILY, {}.get)
    assert not finding.ok
    assert finding.detail == "fast lacks fastsea, water; reference lacks sea"
    assert finding.remedy == "pip install fastsea water"


def test_family_whose_machine_lacks_something_names_that_and_its_own_command():
    lack = Lack("a harbour", "apt-get install harbour")
    engines = [replace(engine, lacks=lambda task: lack) for engine in FAMILY.engines]
    versions = {"sea": "1", "fastsea": "1", "water": "1"}.get
    finding = check_family(replace(FAMILY, engines=tuple(engines)), versions)
    assert not finding.ok
    assert finding.detail == "fast lacks a harbour; reference lacks a harbour"
    assert finding.remedy == "apt-get install harbour"
    one = replace(FAMILY, engines=(engines[0], FAMILY.engines[1]))
    assert check_family(one, versions).detail == "runs on reference; fast lacks a harbour"


def test_python_outside_the_lock_file_is_refused():
    assert check_python((3, 11)).ok
    assert check_python((3, 12)).ok
    assert not check_python((3, 10)).ok
    assert not check_python((3, 13)).ok


def test_rendering_without_a_driver_names_the_command():
    assert check_rendering("osmesa").ok
    assert not check_rendering(None).ok
    assert "libegl1" in check_rendering(None).remedy


def test_distribution_that_does_not_exist_has_no_version():
    assert installed_version("no-such-distribution-anywhere") is None
    assert installed_version("numpy") is not None


def test_this_installation_is_the_one_of_the_lock_file():
    findings = doctor()
    topics = list(dict.fromkeys(f.topic for f in findings))
    assert topics == ["python", "torch", "package", "family", "rendering"]
    wrong = [f for f in findings if not f.ok and f.topic in ("python", "package", "family")]
    assert wrong == []


def test_lock_pins_every_package_and_names_no_index_or_host():
    lines = LOCK.read_text().splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert all(line.count("==") == 1 and " " not in line for line in packages)
    assert packages == sorted(packages, key=str.casefold)
    assert not any("://" in line or line.startswith("-") for line in lines)
