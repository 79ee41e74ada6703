"""What follows a log, in tests: a copy of a keyed table that is as durable as the test says."""

from caraway.model import Append, Delete, Phase, Truncate


class Copy:
    """Rows by their first column, and the cursor stored with them; `take` is a commit, what is staged is not."""

    def __init__(self):
        self.rows = {}
        self.cursor = None
        self.copies = 0
        self._staged = None

    def interrupted(self):
        """The stream or the process ended: what was not committed is gone."""
        self._staged = None
        return self.cursor

    def take(self, arrival):
        if arrival.phase in {Phase.SNAPSHOT, Phase.SNAPSHOT_END}:
            self._stage(arrival)
            return
        assert self._staged is None
        for change in arrival.changes:
            apply(self.rows, change)
        if arrival.cursor is not None:
            self.cursor = arrival.cursor

    def _stage(self, arrival):
        for change in arrival.changes:
            if isinstance(change, Truncate):
                self._staged = {}
            else:
                assert isinstance(change, Append)
                apply(self._staged, change)
        if arrival.phase is Phase.SNAPSHOT_END:
            self.rows, self._staged, self.cursor = self._staged, None, arrival.cursor
            self.copies += 1


def apply(rows, change):
    match change:
        case Append():
            columns = [column.to_pylist() for column in change.rows.columns]
            rows |= {values[0]: values for values in zip(*columns, strict=True)}
        case Delete():
            for key in change.keys.column(0).to_pylist():
                rows.pop(key, None)
