"""What the spicepod declares: reference/http_api.md 10."""

from starlette.requests import Request

from caraway.config.model import Spicepod
from caraway.servers.api.reply import Reply, rows

POD_COLUMNS = ("name", "version", "datasets_count", "models_count", "dependencies_count")


class PodRoutes:
    """Handlers over the loaded pod."""

    def __init__(self, pod: Spicepod) -> None:
        self._pod = pod

    async def pods(self, request: Request) -> Reply:
        pod = self._pod
        counts = (len(pod.datasets), 0, len(pod.dependencies))
        row: dict[str, object] = dict(zip(POD_COLUMNS, (pod.name, pod.version, *counts), strict=True))
        return rows(request.query_params.get("format", "json"), POD_COLUMNS, [row])

    async def catalogs(self, request: Request) -> Reply:
        source = request.query_params.get("from")
        chosen = [catalog for catalog in self._pod.catalogs if source in {None, catalog.from_.connector}]
        values: list[dict[str, object]] = [{"from": c.from_.connector, "name": c.name} for c in chosen]
        return rows(request.query_params.get("format", "json"), ("from", "name"), values)
