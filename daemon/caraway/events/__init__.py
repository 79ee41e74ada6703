"""What happened, in the past tense: frozen values that telemetry turns into log lines (and metrics, and spans).

One event stands for one batch, refresh, request or connection; never for a row. No field holds a secret.
"""

from caraway.events.base import Event, Level
from caraway.events.caching import CacheNotStored, CacheOpened, CacheSourceFailed, CacheSourceRecovered
from caraway.events.daemon import (
    AllReady,
    ApiKeyUnusable,
    ChildCrashed,
    ConfigWarned,
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    ServerListening,
)
from caraway.events.refresh import (
    RefreshFailed,
    RefreshFinished,
    RefreshScheduled,
    RefreshSkipped,
    RefreshStarted,
    RetentionBlind,
    RetentionFinished,
)
from caraway.events.requests import (
    QueryFinished,
    RateControlsDiffer,
    RequestFinished,
    ServerRequestCrashed,
    WorkerDied,
    WorkerStarted,
    WorkerStopped,
)
from caraway.events.responses import ResponseCacheFailed, ResponseCacheReset
from caraway.events.streams import (
    DatasetCaughtUp,
    DatasetFellBehind,
    LocalpodSynchronized,
    MessagesRefused,
    RowsRepeated,
    StreamConnected,
    StreamDisconnected,
    StreamSchemaChanged,
    StreamSnapshotFinished,
    StreamStillDisconnected,
)

__all__ = [
    "AllReady",
    "ApiKeyUnusable",
    "CacheNotStored",
    "CacheOpened",
    "CacheSourceFailed",
    "CacheSourceRecovered",
    "ChildCrashed",
    "ConfigWarned",
    "DaemonStarted",
    "DaemonStopped",
    "DaemonStopping",
    "DatasetCaughtUp",
    "DatasetFellBehind",
    "Event",
    "Level",
    "LocalpodSynchronized",
    "MessagesRefused",
    "QueryFinished",
    "RateControlsDiffer",
    "RefreshFailed",
    "RefreshFinished",
    "RefreshScheduled",
    "RefreshSkipped",
    "RefreshStarted",
    "RequestFinished",
    "ResponseCacheFailed",
    "ResponseCacheReset",
    "RetentionBlind",
    "RetentionFinished",
    "RowsRepeated",
    "ServerListening",
    "ServerRequestCrashed",
    "StreamConnected",
    "StreamDisconnected",
    "StreamSchemaChanged",
    "StreamSnapshotFinished",
    "StreamStillDisconnected",
    "WorkerDied",
    "WorkerStarted",
    "WorkerStopped",
]
