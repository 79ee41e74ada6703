"""YAML text as nodes that know where they stand; nothing is interpreted here."""

from contextlib import suppress
from io import StringIO
from pathlib import Path

import yaml
from yaml.composer import Composer
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.resolver import Resolver

from caraway.errors import ConfigError, ConfigProblem

LARGEST_FILE = 4 * 1024**2
OVERRIDE = "--set-runtime"
"""The `file` of a node that came from the command line."""


def read_document(path: Path) -> yaml.Node:
    """The root node of a file with one YAML document; ConfigError where there is none."""
    return compose(_text_of(path), str(path))


def compose(text: str, source: str) -> yaml.Node:
    """The root node of one YAML document; marks carry `source`. ConfigError says where the syntax breaks."""
    try:
        node = _node_of(text, source)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_at(error.problem_mark or error.context_mark, error.problem or str(error.context))) from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ConfigError(ConfigProblem(f"this is not YAML: {_cause(error)}", file=Path(source))) from error
    if node is None:
        raise ConfigError(ConfigProblem("the file is empty", file=Path(source)))
    return node


def problem_at(mark: yaml.Mark, key: str, message: str) -> ConfigProblem:
    """A problem at the place where a node begins."""
    if mark.name == OVERRIDE:
        return ConfigProblem(message, key, Path(OVERRIDE))
    return ConfigProblem(message, key, Path(mark.name), mark.line + 1, mark.column + 1)


def override(root: yaml.Node, assignment: str) -> yaml.Node:
    """The document with `runtime.a.b` replaced, as `--set-runtime a.b=value` asks; the value is read as YAML."""
    key, equals, value = assignment.partition("=")
    keys = key.strip().removeprefix("runtime.").split(".")
    if not equals or not all(keys):
        raise ConfigError(ConfigProblem(f"{assignment!r} does not have the form key.subkey=value", file=Path(OVERRIDE)))
    return _replaced(root, ["runtime", *keys], compose(value.strip() or "null", OVERRIDE))


class _Stream(StringIO):
    """Text that knows where it came from."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


class _FastLoader(Composer, CParser, Resolver):
    """libyaml's events, composed in Python: its own composer overruns the stack where nesting is deep."""

    def __init__(self, stream: _Stream) -> None:
        CParser.__init__(self, stream)
        Composer.__init__(self)
        Resolver.__init__(self)


def _node_of(text: str, source: str) -> yaml.Node | None:
    """The root node; what libyaml refuses is read again by the slow parser, which says better what is wrong."""
    with suppress(yaml.YAMLError, ValueError):
        return _FastLoader(_Stream(text, source)).get_single_node()
    loader = yaml.SafeLoader(text)
    loader.name = source
    return loader.get_single_node()


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else None
    except (OSError, ValueError) as error:
        raise ConfigError(ConfigProblem(f"the file can't be read: {_cause(error)}", file=path)) from error
    if data is None:
        raise ConfigError(ConfigProblem(f"the file is larger than {LARGEST_FILE} bytes", file=path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(ConfigProblem("this is not UTF-8 text", file=path, line=line)) from error


def _cause(error: Exception) -> str:
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case OSError():
            return error.strerror or type(error).__name__
        case yaml.reader.ReaderError():
            return f"the character {error.character!r} at position {error.position} is not allowed"
        case yaml.YAMLError():
            return str(error)
        case _:
            return "a number or an escape in it is too large"


def _at(mark: yaml.Mark | None, message: str) -> ConfigProblem:
    text = f"this is not YAML: {message}"
    return problem_at(mark, "", text) if mark else ConfigProblem(text)


def _replaced(node: yaml.Node | None, keys: list[str], value: yaml.Node) -> yaml.Node:
    if not keys:
        return value
    pairs = list(node.value) if isinstance(node, yaml.MappingNode) else []
    old = next((inner for key, inner in pairs if key.value == keys[0]), None)
    kept = [pair for pair in pairs if pair[0].value != keys[0]]
    name = yaml.ScalarNode("tag:yaml.org,2002:str", keys[0], value.start_mark, value.end_mark)
    place = node or value
    pairs = [*kept, (name, _replaced(old, keys[1:], value))]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, place.start_mark, place.end_mark)
