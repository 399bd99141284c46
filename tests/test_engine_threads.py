"""A run belongs to the process that started it, and not to the thread."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SPEC = """
harness: 1
factory: hostile:{name}
cases:
  - {{name: one, inputs: {{x: {{values: [1.0, -2.0]}}}}}}
"""
# The first thread starts the workers' server, and ends before the second one.
PROGRAM = """
import json, os, threading, time
from pathlib import Path
import harness

def run(name):
    ran = harness.run(f"specs/{name}.yaml", targets="trace/torch-cpu", latency=False, allow_import=True)
    outcomes[name] = [row.message or row.status for row in ran.results]

def begin():
    run("Harmless")
    second.start()
    while not Path("reached").exists():
        time.sleep(0.01)

def has_ended(thread):
    return not Path(f"/proc/self/task/{thread.native_id}").exists()

outcomes = {}
second = threading.Thread(target=run, args=("Wait",))
first = threading.Thread(target=begin)
first.start()
first.join()
while not has_ended(first):
    time.sleep(0.01)
run("Rubbish")
Path("go").touch()
second.join()
print(json.dumps(outcomes))
"""


def test_a_thread_that_ends_does_not_end_the_workers(here: Path, spec: Callable[[str, str], Path]) -> None:
    shutil.copy(Path(__file__).parent / "hostile.py", here / "hostile.py")
    for name in ("Harmless", "Wait", "Rubbish"):
        spec(f"{name}.yaml", SPEC.format(name=name))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"Harmless": ["passed"], "Rubbish": ["passed"], "Wait": ["passed"]}
