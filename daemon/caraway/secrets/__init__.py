"""Secret values: where they live and how text refers to them. They are read on each use, never kept."""

from caraway.secrets.resolve import ANY_STORE, Reference, Secrets, references
from caraway.secrets.stores import AVAILABLE, EnvStore, FileStore, open_store

__all__ = ["ANY_STORE", "AVAILABLE", "EnvStore", "FileStore", "Reference", "Secrets", "open_store", "references"]
