"""The demonstration, end to end, as `make demo` runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

COMMAND = [sys.executable, "-m", "app.cli", "demo"]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path)}


@pytest.mark.timeout(300)
def test_the_demonstration_proves_what_it_says_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [*COMMAND, "--json"], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["expectations"]
    assert all(report["expectations"].values())
    assert [forgotten["audit"]["verdict"] for forgotten in report["forgotten"]] == ["pass"] * 3
    seven = next(row for row in report["accuracies"] if row["label"] == "7")
    assert seven["before"] > 0.9
    assert seven["after"] == seven["refitted"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing_running(tmp_path, number):
    with subprocess.Popen(
        COMMAND, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        for line in demo.stdout:
            if line.startswith("Registering"):
                break
        running = psutil.Process(demo.pid).children(recursive=True)
        assert running
        demo.send_signal(number)
        _, err = demo.communicate(timeout=90)
    assert demo.returncode == 130
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(running, timeout=30)
    assert alive == []
    assert list(tmp_path.iterdir()) == []
