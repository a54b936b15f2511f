"""Rows of the market: listings with their versions, and the weights that models run."""

from market.models.listings import (
    Listing,
    ListingKind,
    ListingQuerySet,
    StepModel,
    Tier,
    Version,
    VersionQuerySet,
    Visibility,
)
from market.models.pauses import Pause
from market.models.samples import MAX_ATTEMPTS, MOST_CHOSEN, ChosenSample
from market.models.trials import DeviceKind, JobSpeed, Sample, SampleQuerySet, Speed
from market.models.turns import ConversionAccount, ConversionDay
from market.models.weights import OPEN, Conversion, ConversionQuerySet, ConversionState, Weights

__all__ = [
    "MAX_ATTEMPTS",
    "MOST_CHOSEN",
    "OPEN",
    "ChosenSample",
    "Conversion",
    "ConversionAccount",
    "ConversionDay",
    "ConversionQuerySet",
    "ConversionState",
    "DeviceKind",
    "JobSpeed",
    "Listing",
    "ListingKind",
    "ListingQuerySet",
    "Pause",
    "Sample",
    "SampleQuerySet",
    "Speed",
    "StepModel",
    "Tier",
    "Version",
    "VersionQuerySet",
    "Visibility",
    "Weights",
]
