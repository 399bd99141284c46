"""Files with arrays: every format gives the values that were written, and none runs code."""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from harness.data_files import UNNAMED, pick, sample_paths, stored_arrays
from harness.errors import UsageError
from harness.model.tensors import to_numpy

# What safetensors 0.8 wrote for {"x": [[1, 2], [3, 4]], "h": bfloat16 [1.5, -2], "ids": int64 [7]}.
SAFETENSORS = (
    b'\xc8\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{"format":"pt"},"ids":{"dtype":"I64","shape":[1],"data_offsets":'
    b'[0,8]},"x":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]},"h":{"dtype":"BF16","shape":[2],"data_offsets":'
    b"[24,28]}} \x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@\xc0?\x00\xc0"
)


def read(path: Path) -> dict[str, Any]:
    arrays = stored_arrays(path)
    values = {name: array.read() for name, array in arrays.items()}
    assert [(each.dtype, each.shape) for each in arrays.values()] == [(v.dtype, v.shape) for v in values.values()]
    return values


def message(path: Path) -> str:
    with pytest.raises(UsageError) as raised:
        read(path)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_npz_and_npy_hold_what_was_saved(tmp_path: Path) -> None:
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez_compressed(tmp_path / "a.npz", x=x, ids=np.array(7, ">i4"))
    np.save(tmp_path / "b.npy", x)
    first = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(first["x"], x)
    assert first["x"].flags.c_contiguous
    assert (first["ids"].dtype, first["ids"].shape, int(first["ids"])) == (np.dtype("=i4"), (), 7)
    np.testing.assert_array_equal(read(tmp_path / "b.npy")[UNNAMED], x)


def test_safetensors_are_read_as_the_library_writes_them(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(SAFETENSORS)
    values = read(tmp_path / "a.safetensors")
    assert [(name, each.tolist()) for name, each in values.items()] == [
        ("ids", [7]),
        ("x", [[1, 2], [3, 4]]),
        ("h", [1.5, -2]),
    ]
    assert values["h"].dtype == ml_dtypes.bfloat16


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int64, torch.uint8, torch.bool]
DTYPES += [torch.uint16, torch.complex64, torch.float8_e4m3fn]


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from(DTYPES),
    transposed=st.booleans(),
    last=st.booleans(),
)
def test_pt_holds_what_torch_saved(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: torch.dtype, transposed: bool, last: bool
) -> None:
    tensor = torch.arange(2 * int(np.prod(shape))).reshape(2, *shape).to(dtype)
    tensor = tensor.transpose(0, -1) if transposed else tensor
    tensor = tensor[-1] if last and len(tensor) else tensor  # a view with an offset
    path = tmp_path_factory.mktemp("pt") / "a.pt"
    torch.save({"past": [{"key": tensor}], "epoch": 3}, path)
    values = read(path)
    assert list(values) == ["past.0.key"]
    expected = to_numpy(tensor)
    assert values["past.0.key"].dtype == expected.dtype
    assert values["past.0.key"].tobytes() == np.array(expected, order="C").tobytes()


def test_a_state_dict_and_a_bare_tensor_are_read(tmp_path: Path) -> None:
    net = nn.BatchNorm1d(2)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert list(read(tmp_path / "net.pth")) == list(net.state_dict())
    torch.save(nn.Parameter(torch.ones(2)), tmp_path / "x.pt")
    assert read(tmp_path / "x.pt")[UNNAMED].tolist() == [1, 1]


class RunsCode:
    """An object whose loading makes a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def test_objects_that_run_code_are_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    bad = RunsCode(str(made))
    np.savez(tmp_path / "a.npz", fine=np.ones(1), bad=np.array([bad], dtype=object))
    np.save(tmp_path / "a.npy", np.array([bad], dtype=object))
    torch.save({"x": bad}, tmp_path / "a.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(bad))
    assert "bad holds pickled objects" in message(tmp_path / "a.npz")
    assert "pickled objects" in message(tmp_path / "a.npy")
    for name, needs in (("a.pt", r"it needs (nt|posix)\.mkdir"), ("net.pt", r"torch\.nn\.modules\.linear\.Linear")):
        text = message(tmp_path / name)
        assert re.search(needs, text)
        assert "torch.save(model.state_dict(), 'net.pt')" in text
    assert "torch.save(model.state_dict(), 'net.pt')" in message(tmp_path / "bare.pt")
    torch.jit.save(torch.jit.script(nn.ReLU()), str(tmp_path / "script.pt"))
    assert "TorchScript" in message(tmp_path / "script.pt")
    assert not made.exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt", ".safetensors"])
def test_a_damaged_file_is_one_line(tmp_path: Path, suffix: str) -> None:
    good = tmp_path / f"good{suffix}"
    if suffix == ".npz":
        np.savez(good, x=np.arange(9))
    elif suffix == ".npy":
        np.save(good, np.arange(9))
    elif suffix == ".pt":
        torch.save(OrderedDict(x=torch.arange(9)), good)
    else:
        good.write_bytes(SAFETENSORS)
    content = good.read_bytes()
    for size in (0, 3, len(content) // 2, len(content) - 1):
        bad = tmp_path / f"bad{suffix}"
        bad.write_bytes(content[:size])
        assert message(bad).startswith(str(bad))


def test_a_missing_key_lists_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.ones(1), labels=np.ones(1))
    arrays = stored_arrays(path)
    assert pick(arrays, "images", path).shape == (1,)
    with pytest.raises(UsageError, match="no array 'image'; it holds images, labels"):
        pick(arrays, "image", path)
    with pytest.raises(UsageError, match="choose one with `key`: images, labels"):
        pick(arrays, None, path)


def test_a_folder_stands_for_its_files_in_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        np.save(tmp_path / f"{number}.npy", np.ones(number))
    (tmp_path / "notes.txt").write_text("no data")
    assert [path.name for path in sample_paths(tmp_path)] == ["1.npy", "9.npy", "10.npy"]
    data_set = tmp_path / "test_data_set_0"
    data_set.mkdir()
    for number, name in enumerate(("x", "")):
        tensor = numpy_helper.from_array(np.full(2, number, np.float32), name)
        (data_set / f"input_{number}.pb").write_bytes(tensor.SerializeToString())
    assert [path.name for path in sample_paths(tmp_path)][-1] == "test_data_set_0"
    assert sample_paths(data_set) == (data_set,)
    assert {name: each.tolist() for name, each in read(data_set).items()} == {"input_0": [0, 0], "input_1": [1, 1]}
    (data_set / "input_1.pb").write_bytes(b"no protobuf")
    assert "not a tensor" in message(data_set)


def test_what_is_no_data_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data")
    assert "not a data file; give .npz, .npy, .pt or .safetensors" in message(tmp_path / "notes.txt")
    assert "no such file" in message(tmp_path / "x.npz")
    with pytest.raises(UsageError, match="a folder without data files"):
        sample_paths(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros(2, ml_dtypes.bfloat16))
    assert ".safetensors" in message(tmp_path / "a.npy")
