"""A short run of `make chaos`: random faults in a whole site."""

import os
import subprocess
import sys

import pytest

from tests.live import ROOT

# What would lead it to the services of the tests.
OURS = ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")


@pytest.mark.alone
@pytest.mark.worker
def test_a_site_that_is_struck_at_random_loses_and_doubles_nothing() -> None:
    env = {name: value for name, value in os.environ.items() if name not in OURS and "IPAU" not in name}
    command = [sys.executable, "-W", "ignore", "-m", "tests.chaos"]
    options = ["--seed", "4", "--minutes", "0.3", "--jobs", "25"]
    run = subprocess.run([*command, *options], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr[-5000:]
