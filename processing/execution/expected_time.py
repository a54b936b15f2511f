"""How long a model may take: what its trial took on a small image, scaled, with room to spare."""

import math
import time
from collections.abc import Collection

from django.conf import settings

from market.weights.speeds import TrialTime, trial_times
from processing.models import Item
from workers.recipe import Recipe

# A run of a network may take so many times what a whole image took in the trial.
TRIAL_FACTOR = 20.0
# An image that takes so many times what is expected of it takes far too long.
OVERLONG_FACTOR = 5.0
# Before this it never gives way to another owner's work, and never counts against its own owner. The second
# is longer, for a machine may be busy.
LEAST_GIVE_WAY_SECONDS = 0.2
LEAST_OVERLONG_SECONDS = 1.0
# Loading the network is expected to take what it took in the trial, up to this.
MOST_LOAD_SECONDS = 3.0
# After this every image gives way, however slow its model is known to be: a turn is not meant to take longer.
MOST_TURN_SECONDS = 2.0
# A trial that has been measured stays as it is. One that has not may come later: it is looked for again.
LOOK_AGAIN_SECONDS = 30.0
_known: dict[str, TrialTime] = {}
_missing_until: dict[str, float] = {}


def network_seconds(recipe: Recipe) -> float:
    """Return how much processor time one run of a recipe's networks may take, in seconds."""
    trials = _trials_of(recipe.weights())
    if not trials:
        # Less than an image may take, so that a run that does not end counts against its model.
        return float(settings.ITEM_SECONDS) / 2
    longest = TRIAL_FACTOR * max(trial.seconds for trial in trials)
    return float(min(settings.ITEM_SECONDS, max(settings.NETWORK_LEAST_SECONDS, longest)))


def give_way_after(recipe: Recipe, item: Item) -> float:
    """Return after how many seconds an image gives way to another owner who waits."""
    longest = _longest(recipe, item)
    if longest is None:
        return MOST_TURN_SECONDS
    return min(MOST_TURN_SECONDS, max(LEAST_GIVE_WAY_SECONDS, longest))


def overlong_after(recipe: Recipe, item: Item) -> float:
    """Return after how many seconds an image counts against its owner's next turns.

    Only what is far slower than its own trial does: an app over large images does no wrong.
    """
    longest = _longest(recipe, item)
    return math.inf if longest is None else max(LEAST_OVERLONG_SECONDS, longest)


def _longest(recipe: Recipe, item: Item) -> float | None:
    """Return how many seconds its models' trials let expect of an image at most; None where there are none.

    The time that an image takes may grow with its pixels.
    """
    trials = _trials_of(recipe.weights())
    if not trials:
        return None
    file = item.input_file
    pixels = (file.width or 0) * (file.height or 0) if file is not None else 0
    running = sum(trial.seconds * max(1.0, pixels / trial.pixels) for trial in trials)
    loading = sum(min(trial.first_seconds, MOST_LOAD_SECONDS) for trial in trials)
    return loading + OVERLONG_FACTOR * running


def _trials_of(digests: Collection[str]) -> list[TrialTime]:
    """Return the trials of these models, of those that have one. A preview has no time for a query each."""
    now = time.monotonic()
    unknown = [each for each in digests if each not in _known and _missing_until.get(each, 0.0) <= now]
    if unknown:
        _known.update(trial_times(unknown))
        _missing_until.update(dict.fromkeys(unknown, now + LOOK_AGAIN_SECONDS))
    return [_known[digest] for digest in digests if digest in _known]
