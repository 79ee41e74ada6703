"""Which files a path means: one file, all below a folder, or those that a glob matches."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 100_000
_MAGIC = re.compile(r"[*?\[]")
_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was listed; `mtime` in nanoseconds since 1970."""

    path: Path
    size: int
    mtime: int


class TooManyFilesError(OSError):
    """The path means more files than can be held in memory."""


def list_files(where: Path, suffixes: Sequence[str]) -> tuple[File, ...]:
    """The files of `where`, sorted by path; OSError if it can't be listed.

    In a glob `*` stops at `/` and `**` does not. Of a folder all files below it with one of `suffixes` are taken.
    Names that begin with a dot or an underscore are left out, as unfinished files of other programs are named so.
    """
    found: Iterator[Path]
    if where.is_dir():
        found = (path for path in _walk(where) if path.name.lower().endswith(tuple(suffixes)))
    elif where.exists() or not _MAGIC.search(str(where)):
        found = iter([where])
    else:
        found = _matches(where)
    return tuple(sorted(_stated(found), key=lambda file: file.path))


def token(files: Sequence[File]) -> str:
    """A short text that changes whenever a file is added, removed, replaced or written."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(f"{file.path}\0{file.size}\0{file.mtime}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _stated(paths: Iterator[Path]) -> Iterator[File]:
    for number, path in enumerate(paths):
        if number == MOST_FILES:
            raise TooManyFilesError(f"more than {MOST_FILES:,} files")
        stat = path.stat()
        yield File(path, stat.st_size, stat.st_mtime_ns)


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for at, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (Path(at, name) for name in names if not name.startswith((".", "_")))


def _matches(pattern: Path) -> Iterator[Path]:
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    base = Path(*parts[:fixed])
    wanted = re.compile("".join(_regex(piece) for piece in _PIECE.findall("/".join(parts[fixed:]))), re.DOTALL)
    return (path for path in _walk(base) if wanted.fullmatch(path.relative_to(base).as_posix()))


def _regex(piece: str) -> str:
    match piece:
        case "**/":
            return "(?:.*/)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _ if len(piece) > 1:
            inner = piece[1:-1].replace("\\", r"\\")
            return f"[^/{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
        case _:
            return re.escape(piece)
