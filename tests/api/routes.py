"""All addresses of the API, found in its URL patterns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern

from ipau import api_urls


@dataclass(frozen=True)
class Route:
    """One address: its template, the names in it, and the methods that its view has."""

    name: str
    template: str
    parameters: tuple[str, ...]
    methods: tuple[str, ...]

    def path(self, **values: object) -> str:
        found = self.template
        for name, value in values.items():
            for converter in ("uuid", "str"):
                found = found.replace(f"<{converter}:{name}>", str(value))
        return found


def all_routes() -> Iterator[Route]:
    for pattern in api_urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        view: Any = getattr(pattern.callback, "cls", None)
        if view is None:
            continue
        methods = [m for m in view.http_method_names if hasattr(view, m) and m not in ("options", "head")]
        yield Route(
            name=str(pattern.name),
            template=f"/v1/{pattern.pattern}",
            parameters=tuple(pattern.pattern.converters),
            methods=tuple(methods),
        )
