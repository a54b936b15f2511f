"""Tables of the market.

A listing is an app, model or pipeline. A version is one release of it. A model is a listing whose versions
have weights.

- Listing: an app, a model or a pipeline at the address `owner/name`, with its texts and visibility.
- Version: an immutable release of a listing (`listing`): its recipe, its schema and, of a model, its
  weights (`weights`).
- StepModel: one step of a pipeline version (`version`) that runs a version of a model (`model`).
- Weights: a converted model, three blobs: `model.json`, an ONNX graph, its tensors. Versions may share it.
- Conversion: the conversion of a user's weights file (`file`, `source`). It ends as a version or fails.
- ConversionAccount: the lease by which only one conversion or trial of an owner runs at a time.
- ConversionDay: seconds of conversions and trials of an owner on one day (UTC), for the daily budget.
- Speed: how fast weights ran on one device in their trial, in milliseconds.
- JobSpeed: how fast weights ran on one device in jobs, as sums over images.
- Sample: an image of the site (`before`) and the result of weights for it (`after`), for pages.
- ChosenSample: an image that the owner of a listing chose, and the result of its newest weights for it.
- Pause: how many runs of weights were killed recently. Above a limit the weights are paused.
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
