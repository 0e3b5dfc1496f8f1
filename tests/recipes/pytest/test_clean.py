"""The lock is free at the fork: nothing to tell."""
import os
import subprocess


def test_pool_logs_before_its_child():
    assert subprocess.run([os.environ["POOL"], "clean"], check=False).returncode == 0
