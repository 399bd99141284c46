"""torch's compilers, which take longer to load than many checks, are not loaded by checks that do not compile."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from harness.engine.processes.process_state import ProcessState
from harness.model.build import seed_torch

CHECK = """
import sys, torch
from harness.engine.processes.process_state import ProcessState
from harness.model.build import answers
process_state = ProcessState(torch=True)
with process_state.check():
    answers(torch.nn.Dropout(), [torch.ones(4)], 7)
sys.exit("loaded" if "torch._dynamo" in sys.modules or "torch._inductor" in sys.modules else 0)
"""


def test_a_check_that_compiles_nothing_loads_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [0, 7, -1, 2**63])
def test_random_numbers_begin_where_torch_lets_them_begin(number: int) -> None:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(number)
        expected = torch.rand(5)
        seed_torch(number)
        assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize("found", [0, 1, 2])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_what_a_check_does_to_determinism_is_put_back(found: int, left: int) -> None:
    before = torch.get_deterministic_debug_mode()
    try:
        torch.use_deterministic_algorithms(found != 0, warn_only=found == 1)
        process_state = ProcessState(torch=True)
        with process_state.check():
            torch.use_deterministic_algorithms(left != 0, warn_only=left == 1)
        assert torch.get_deterministic_debug_mode() == found
    finally:
        torch.use_deterministic_algorithms(before != 0, warn_only=before == 1)
