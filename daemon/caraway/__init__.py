"""caraway: fresh local copies of remote datasets, served as SQL."""

__version__ = "0.1.0"
