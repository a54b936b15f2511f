"""All routes of the API, read from its URL patterns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern

from ipau import api_urls


@dataclass(frozen=True)
class Route:
    """One route: URL template, parameters, and methods of its view."""

    name: str
    template: str
    parameters: tuple[str, ...]
    methods: tuple[str, ...]

    def path(self, **values: object) -> str:
        path = self.template
        for name, value in values.items():
            for converter in ("uuid", "str"):
                path = path.replace(f"<{converter}:{name}>", str(value))
        return path


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
