"""Defaults of options in the ``pyproject.toml`` of the working directory.

.. code-block:: toml

    [tool.harness]
    targets = ["trace/torch-cpu", "onnx-dynamo@23/ort-cpu"]
    report-dir = "build/parity"

    [tool.harness.run]
    paths = ["specs/"]
    latency = false

A key is the long name of an option, or ``paths``. ``[tool.harness]`` holds for every command that takes PATH and has
the option, and the table of a command for that command alone. The command line overrides both. Consent to run code, and
what is about one call, are not taken from a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from harness.errors import Location, Problem, SpecError, UsageError
from harness.spec.quoting import suggestion

FILE = "pyproject.toml"
TABLE = re.compile(r"^\s*\[\s*tool\s*\.\s*harness\s*[.\]]", re.MULTILINE)
INLINE = re.compile(r"^\s*(tool\s*\.\s*)?harness\s*[.=]", re.MULTILINE)
"""What may be the table without a line of its own: such a file is read too, but may be wrong elsewhere."""
PLACE_IN_TOML = re.compile(r" \(at line (\d+), column (\d+)\)$")
ONE_CALL = "it is about one call; use the command line"
ONLY_ON_THE_COMMAND_LINE = {
    "allow-import": "it is consent to run code; use the command line",
    **dict.fromkeys(("add", "dry-run", "help", "last", "lf", "open", "resume", "watch"), ONE_CALL),
}


def default_map(commands: Mapping[str, click.Command]) -> dict[str, dict[str, Any]]:
    """The defaults of each of ``commands`` by the names of its parameters, as click takes them.

    Empty if the working directory has no ``pyproject.toml``, or that no table ``[tool.harness]``. Raises
    :class:`SpecError` with every key and every value that is wrong.
    """
    try:
        text = Path(FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # there is no project, or its file is somebody else's concern
        return {}
    if not (TABLE.search(text) or INLINE.search(text)):
        return {}
    table = _table(text, certain=TABLE.search(text) is not None)
    own = {name: values for name, values in table.items() if isinstance(values, Mapping)}
    shared = {key: value for key, value in table.items() if key not in own}
    options = {name: _options(command) for name, command in commands.items()}
    wrong = dict(_wrong_keys(shared, own, options))
    defaults: dict[str, dict[str, Any]] = {name: {} for name in commands}
    for name, by_key in options.items():
        for key, value in {**(shared if "paths" in by_key else {}), **own.get(name, {})}.items():
            if key in by_key and key not in wrong:
                try:
                    defaults[name][str(by_key[key].name)] = _checked(by_key[key], value)
                except (click.BadParameter, UsageError) as error:
                    wrong[key] = (_message(error), f"see harness {name} --help")
    if wrong:
        raise SpecError(Problem(_place(text, key), f"{key}: {what}", remedy) for key, (what, remedy) in wrong.items())
    return defaults


def _wrong_keys(
    shared: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Mapping[str, click.Parameter]],
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each key that names no option or no command, or may not be set in a file, with what is wrong and what to do."""
    everywhere = {key: param for each in options.values() if "paths" in each for key, param in each.items()}
    for name in own:
        if name not in options:
            yield name, ("no such command", suggestion(name, options, "see harness --help"))
    for command, keys in (("", shared), *((name, own[name]) for name in own if name in options)):
        known = options[command] if command else everywhere
        for key in keys:
            if key not in known:
                of = f"harness {command} has" if command else "there is"
                see = f"see harness {command or 'COMMAND'} --help"
                yield key, (f"{of} no such option", suggestion(key, known, see))
            elif key in ONLY_ON_THE_COMMAND_LINE:
                yield key, ("not taken from a file", ONLY_ON_THE_COMMAND_LINE[key])


def _table(text: str, *, certain: bool) -> Mapping[str, Any]:
    """The table ``[tool.harness]``; empty if it cannot be read and it is not ``certain`` that there is one.

    Python 3.10 has no reader of TOML; tomli, which many tools bring, is one.
    """
    for name in ("tomllib", "tomli"):
        try:
            reader = import_module(name)
        except ModuleNotFoundError:
            continue
        try:
            tools = reader.loads(text).get("tool", {})
        except ValueError as error:
            if not certain:
                return {}
            raise SpecError([_not_toml(str(error))]) from error
        table = tools.get("harness", {}) if isinstance(tools, Mapping) else {}  # a pattern may match in another table
        if not isinstance(table, Mapping):
            message = f"tool.harness: a table is expected, not {table!r}"
            raise SpecError([Problem(_place(text, "harness"), message, "write [tool.harness]")])
        return table
    if not certain:
        return {}
    message = "[tool.harness] cannot be read by Python 3.10 alone"
    raise SpecError([Problem(Location(FILE, 0), message, "install with: pip install tomli")])


def _not_toml(message: str) -> Problem:
    place = PLACE_IN_TOML.search(message)
    where = Location(FILE, 0) if place is None else Location(FILE, int(place[1]), int(place[2]))
    return Problem(where, f"not TOML: {PLACE_IN_TOML.sub('', message)}", "see https://toml.io")


def _options(command: click.Command) -> dict[str, click.Parameter]:
    """The parameters of a command by the key that sets them."""
    return dict(_keys(command))


def _keys(command: click.Command) -> Iterator[tuple[str, click.Parameter]]:
    for param in command.params:
        if isinstance(param, click.Argument):
            yield from (("paths", param),) if param.name == "paths" else ()
        else:
            yield from ((option.removeprefix("--"), param) for option in param.opts if option.startswith("--"))


def _checked(param: click.Parameter, value: Any) -> Any:
    """``value`` as click takes it for ``param``; raises what click or the option's own check raises for a wrong one."""
    if isinstance(param, click.Option) and param.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter("true or false is expected")
        return value
    values = value if isinstance(value, list) else [value]
    takes_numbers = isinstance(param.type, click.IntRange | click.FloatRange) or param.callback is not None
    if not all(type(each) in ({str, int, float} if takes_numbers else {str}) for each in values):
        raise click.BadParameter("a number is expected" if takes_numbers else "a text or a list of texts is expected")
    texts = [str(each) for each in values]
    is_list = param.multiple or param.nargs == -1
    if not is_list and len(texts) != 1:
        texts = [",".join(texts)]  # such as the formats, which are a list within one option
    for text in texts:
        param.type.convert(text, param, None)
        if param.callback is not None and not is_list:
            param.callback(click.Context(click.Command("harness")), param, text)
    return texts if is_list else texts[0]


def _message(error: click.BadParameter | UsageError) -> str:
    text = error.message if isinstance(error, click.BadParameter) else str(error)
    return text.rstrip(".")


def _place(text: str, key: str) -> Location:
    """The line of ``key``, which TOML's readers do not tell: as a key, or in the name of a table."""
    pattern = rf"^\s*\"?{re.escape(key)}\"?\s*=|^\s*\[\s*tool\s*\.\s*harness\s*\.\s*\"?{re.escape(key)}\b"
    match = re.search(pattern, text, re.MULTILINE)
    return Location(FILE, 0) if match is None else Location(FILE, text.count("\n", 0, match.end()) + 1)
