"""Read the inputs of a ``test_data_set_*`` folder of ONNX's backend tests: ``input_0.pb``, ``input_1.pb``, ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.data_files import StoredArray
from harness.errors import UsageError


def read_test_data(folder: Path) -> Mapping[str, StoredArray]:
    """The tensors in ``input_N.pb``, by the names in the files, or as ``input_N`` if one has none.

    Raises :class:`UsageError` if a number is missing, or a file is no tensor.
    """
    count = len(list(folder.glob("input_*.pb")))
    if not count:
        raise UsageError(f"{folder}: no data files; name a data file, or a folder with input_0.pb")
    read = [_read(folder / f"input_{number}.pb") for number in range(count)]
    names = [name for name, _ in read]
    if not all(names) or len(set(names)) < count:
        names = [f"input_{number}" for number in range(count)]
    return {name: array for name, (_, array) in zip(names, read, strict=True)}


def _read(path: Path) -> tuple[str, StoredArray]:
    from google.protobuf.message import DecodeError
    from onnx import TensorProto

    from harness.onnx_arrays import to_array

    tensor = TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        if tensor.data_location == TensorProto.EXTERNAL:
            raise UsageError(f"{path}: keeps its data in another file; a recorded value must hold its own")
        values = to_array(tensor)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); number the files from input_0.pb") from error
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: not a tensor in ONNX's protobuf format, or truncated; write it with onnx") from error
    return tensor.name, StoredArray(values.dtype, values.shape, lambda: values)
