"""Rows of the market: listings with their versions, and the weights that models run."""

from market.models.listings import Listing, ListingKind, ListingQuerySet, Tier, Version, Visibility
from market.models.weights import OPEN, Conversion, ConversionQuerySet, ConversionState, Weights

__all__ = [
    "OPEN",
    "Conversion",
    "ConversionQuerySet",
    "ConversionState",
    "Listing",
    "ListingKind",
    "ListingQuerySet",
    "Tier",
    "Version",
    "Visibility",
    "Weights",
]
