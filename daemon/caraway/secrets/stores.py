"""The stores of secrets: the process's environment with a `.env` file, and a folder of files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caraway.errors import ConfigError
from caraway.model import Secret
from caraway.secrets.dotenv import parse_dotenv

if TYPE_CHECKING:
    from caraway.ports import SecretStore

AVAILABLE = ("env", "file")

LARGEST_SECRET = 1024**2

_FILE_NAME = re.compile(r"(?!\.\.)[\w.-]{1,255}", re.ASCII)


def open_store(store: str, params: Mapping[str, str], directory: Path) -> SecretStore:
    """The store of one `secrets:` entry of the pod in `directory`; ConfigError for an unknown one or no path."""
    match store:
        case "env":
            return EnvStore(directory / params.get("file_path", ".env"))
        case "file":
            return FileStore(directory / _folder(params))
        case _:
            raise ConfigError(
                f"the secret store {store!r} is not available in this version; available: {', '.join(AVAILABLE)}"
            )


class EnvStore:
    """The environment, then `.env`; asks for the key as written, in upper case, and so with `SPICE_` before it."""

    def __init__(self, dotenv: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._dotenv = dotenv
        self._environ = environ

    def get(self, key: str) -> Secret | None:
        spellings = (key, key.upper(), f"SPICE_{key.upper()}")
        for values in (self._environ, _dotenv_of(self._dotenv)):
            for spelling in spellings:
                if spelling in values:
                    return Secret(values[spelling])
        return None

    def __repr__(self) -> str:
        return f"EnvStore({str(self._dotenv)!r})"


class FileStore:
    """A folder with one file a secret, as Kubernetes and systemd mount them; one newline at the end is dropped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Secret | None:
        for spelling in dict.fromkeys((key, key.upper())):
            if _FILE_NAME.fullmatch(spelling) and spelling != ".":
                text = self._read(self._folder / spelling)
                if text is not None:
                    return Secret(text)
        return None

    def _read(self, path: Path) -> str | None:
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._folder)):
            return None
        text = read_text(path)
        return text.removesuffix("\n").removesuffix("\r") if text is not None else None

    def __repr__(self) -> str:
        return f"FileStore({str(self._folder)!r})"


def read_text(path: Path) -> str | None:
    """A small UTF-8 file, None where there is none; ConfigError names the file and the cause, never its contents."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            data = file.read(LARGEST_SECRET + 1)
        if len(data) <= LARGEST_SECRET:
            return data.decode()
        cause = f"it is larger than {LARGEST_SECRET} bytes"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        cause = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        cause = "it is not UTF-8 text"
    # Raised here and not in the handlers: a decoding error carries the bytes that it failed on.
    raise ConfigError(f"the secret file {path} can't be read: {cause}")


def _dotenv_of(path: Path) -> Mapping[str, str]:
    text = read_text(path)
    return parse_dotenv(text, str(path)) if text is not None else {}


def _folder(params: Mapping[str, str]) -> str:
    folder = params.get("path") or os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError(
            "the secret store `file` has no folder; set its params.path, or start the daemon with "
            "$CREDENTIALS_DIRECTORY (systemd does for LoadCredential=)"
        )
    return folder
