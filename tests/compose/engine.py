"""The container engine of this machine, if there is one."""

import os
import shutil
import subprocess

import pytest


def compose_command():
    """The words that this machine has for Compose; skips without them."""
    if not shutil.which("docker"):
        pytest.skip("no container engine: there is no `docker` command")
    if not _works("docker", "info"):
        pytest.skip("no container engine: `docker info` failed")
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and _works(*command, "version"):
            return command
    return pytest.skip("no container engine: neither `docker compose` nor `docker-compose` works")


def _works(*command):
    """Whether it says so within ten seconds: an engine that hangs is none."""
    try:
        return not subprocess.run(command, capture_output=True, check=False, timeout=10).returncode
    except subprocess.TimeoutExpired:
        return False


def project(name, file, **variables):
    """A function that runs Compose commands for a project of our own, and returns what they say.

    Args:
        name: of the project.
        file: that describes it.
        variables: of the environment; a call may have more.
    """
    command = [*compose_command(), "--project-name", name, "--file", str(file)]

    def run(*arguments, **more):
        environment = os.environ | {key: str(value) for key, value in (variables | more).items()}
        done = subprocess.run(
            [*command, *arguments], env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def docker(*arguments):
    """Run a command of the engine; returns what it says."""
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
