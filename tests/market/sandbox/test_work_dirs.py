"""Working directories, and the clean-up after killed workers."""

import os
import time

import pytest

from market.sandbox import work_dirs
from market.weights import tasks

pytestmark = pytest.mark.django_db


def test_the_sweep_deletes_folders_of_killed_trials() -> None:
    with work_dirs.open_scratch() as killed, work_dirs.open_scratch() as at_work:
        assert (killed.stat().st_mode & 0o777, killed.parent.stat().st_mode & 0o777) == (0o700, 0o700)
        (killed / "model").mkdir()
        for folder, hours in ((killed, 2), (at_work, 0.5)):
            long_ago = time.time() - 3600 * hours
            os.utime(folder, (long_ago, long_ago))
        tasks.sweep()
        assert (killed.exists(), at_work.exists()) == (False, True)
    assert not at_work.exists()
