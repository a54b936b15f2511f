"""Factories of pipelines."""

from typing import Any

from accounts.models import User
from market.models import Listing
from market.pipelines import services
from workers.recipe import Step


def steps(*chain: str | tuple[str, dict[str, Any]]) -> list[Step]:
    """Return steps: `steps("pixelart", ("blackwhite", {"contrast": 20}))`."""
    named = [(one, {}) if isinstance(one, str) else one for one in chain]
    return [Step(operation=key, params=params) for key, params in named]


def pipeline(
    owner: User, *chain: str | tuple[str, dict[str, Any]], title: str = "Night comic", **fields: Any
) -> Listing:
    """Create a pipeline of this account (default: two steps)."""
    chosen = steps(*(chain or (("pixelart", {"block": 9}), ("blackwhite", {"contrast": 20}))))
    return services.create_pipeline(owner=owner, title=title, steps=chosen, **fields)
