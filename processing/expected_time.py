"""How long a model may take: what its trial took on a small image, scaled, with room to spare."""

from collections.abc import Collection

from django.conf import settings

from market.speeds import TrialTime, trial_times
from processing.models import Item
from workers.recipe import Recipe

# A run of a network may take so many times what a whole image took in the trial.
TRIAL_FACTOR = 20.0
# An image that takes so many times what is expected of it takes far too long, but never before this.
OVERLONG_FACTOR = 5.0
LEAST_OVERLONG_SECONDS = 1.0
# Where nothing is known of it. A turn is not meant to take longer.
UNKNOWN_SECONDS = 2.0
# A trial that has been measured stays as it is.
_known: dict[str, TrialTime] = {}


def network_seconds(recipe: Recipe) -> float:
    """Return how much processor time one run of a recipe's networks may take, in seconds."""
    trials = _trials_of(recipe.weights())
    if not trials:
        return float(settings.ITEM_SECONDS)
    longest = TRIAL_FACTOR * max(trial.seconds for trial in trials)
    return float(min(settings.ITEM_SECONDS, max(settings.NETWORK_LEAST_SECONDS, longest)))


def overlong_seconds(recipe: Recipe, item: Item) -> float:
    """Return after how many seconds an image takes far longer than its models' trials let expect.

    The time that an image takes may grow with its pixels.
    """
    trials = _trials_of(recipe.weights())
    if not trials:
        return UNKNOWN_SECONDS
    file = item.input_file
    pixels = (file.width or 0) * (file.height or 0) if file is not None else 0
    expected = sum(trial.seconds * max(1.0, pixels / trial.pixels) for trial in trials)
    return max(LEAST_OVERLONG_SECONDS, OVERLONG_FACTOR * expected)


def _trials_of(digests: Collection[str]) -> list[TrialTime]:
    missing = [digest for digest in digests if digest not in _known]
    if missing:
        # Those without a trial are asked for again: one may come later.
        _known.update(trial_times(missing))
    return [_known[digest] for digest in digests if digest in _known]
