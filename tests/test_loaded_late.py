"""A check that does not compile anything does not load torch's compilers, which load slower than many checks run."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from harness.engine.processes.process_state import ProcessState
from harness.model.running import seed_torch

CHECK = """
import sys, torch
from harness.engine.processes.process_state import ProcessState
from harness.model.running import eager_outputs
process_state = ProcessState(torch=True)
with process_state.check():
    eager_outputs(torch.nn.Dropout(), [torch.ones(4)], 7)
sys.exit("loaded" if "torch._dynamo" in sys.modules or "torch._inductor" in sys.modules else 0)
"""


def test_a_check_that_compiles_nothing_loads_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [0, 7, -1, 2**63])
def test_seed_torch_gives_the_random_numbers_of_manual_seed(number: int) -> None:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(number)
        expected = torch.rand(5)
        seed_torch(number)
        assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize("mode_before", [0, 1, 2])
@pytest.mark.parametrize("mode_set", [0, 1, 2])
def test_a_check_restores_the_determinism_mode(mode_before: int, mode_set: int) -> None:
    before = torch.get_deterministic_debug_mode()
    try:
        torch.use_deterministic_algorithms(mode_before != 0, warn_only=mode_before == 1)
        process_state = ProcessState(torch=True)
        with process_state.check():
            torch.use_deterministic_algorithms(mode_set != 0, warn_only=mode_set == 1)
        assert torch.get_deterministic_debug_mode() == mode_before
    finally:
        torch.use_deterministic_algorithms(before != 0, warn_only=before == 1)
