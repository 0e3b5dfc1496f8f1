"""Passes, though a child in it inherits a lock that is held: only forksafe can tell."""
import os
import subprocess


def test_pool_logs_in_its_child():
    assert subprocess.run([os.environ["POOL"]], check=False).returncode == 0
