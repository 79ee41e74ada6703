"""`refresh_sql` and `retention_sql` as values; sqlglot is loaded when the first one is read."""

from caraway.config.model import RefreshSql
from caraway.core.predicate import Predicate
from caraway.errors import ConfigError, ConfigProblem


def parse_refresh_sql(text: str, dataset_name: str) -> RefreshSql:
    """The value of a `refresh_sql` for a dataset; ConfigError says what is not allowed in it."""
    try:
        return refresh_sql_of(text, dataset_name)
    except ValueError as error:
        raise ConfigError(ConfigProblem(str(error), "refresh_sql")) from error


def refresh_sql_of(text: str, dataset_name: str) -> RefreshSql:
    """As parse_refresh_sql, with a ValueError."""
    from caraway.config.statement import read_select

    return read_select(text, dataset_name)


def retention_sql_of(text: str, dataset_name: str) -> Predicate:
    """The condition of `DELETE FROM dataset WHERE condition`; ValueError says what is not allowed in it."""
    from caraway.config.statement import read_delete

    return read_delete(text, dataset_name)
