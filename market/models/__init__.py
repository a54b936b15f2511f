"""The tables of the market.

A listing is what people see and run, a version is one release of it. A model is a listing whose versions
have weights.

- Listing: an app, a model or a pipeline at the address `owner/name`, with its texts and visibility.
- Version: an immutable release of a listing (`listing`): its recipe, its schema and, of a model, its
  weights (`weights`).
- StepModel: says that one step of a pipeline's version (`version`) runs a version of a model (`model`).
- Weights: a converted model, three blobs: `model.json`, an ONNX graph, its tensors. Versions may share it.
- Conversion: a weights file of a user (`file`, `source`) being converted; it ends as a version or fails.
- ConversionAccount: the lease by which only one conversion or trial of an owner runs at a time.
- ConversionDay: seconds of conversions and trials of an owner on one day (UTC), for the daily budget.
- Speed: how fast weights ran on one device in their trial, in milliseconds.
- JobSpeed: how fast weights ran on one device in jobs, as sums over images.
- Sample: an image of the site (`before`) and the result of weights for it (`after`), for pages.
- ChosenSample: an image that the owner of a listing chose, and the result of its newest weights for it.
- Pause: how often runs of weights had to be ended lately. Beyond a bound the weights are paused.
"""

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
