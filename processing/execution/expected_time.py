"""Time limits of models, scaled from the time that their trial took on a small image."""

import math
import time
from collections.abc import Collection

from django.conf import settings

from market.weights.speeds import TrialTime, trial_times
from processing.models import Item
from workers.recipe import Recipe

# One run of a network may take this many times the trial's time for a whole image.
TRIAL_FACTOR = 20.0
# An image is overlong after this many times its expected time.
OVERLONG_FACTOR = 5.0
# An image is never preempted, and never counts against its owner, before these times. The second is longer
# because the machine may be busy.
MIN_PREEMPT_SECONDS = 0.2
MIN_OVERLONG_SECONDS = 1.0
# Upper bound of the expected loading time, which is otherwise that of the trial.
MAX_LOAD_SECONDS = 3.0
# Every image may be preempted after this time, however slow its model is: turns should not take longer.
MAX_TURN_SECONDS = 2.0
# A measured trial never changes. A missing one is looked up again after this time.
RECHECK_SECONDS = 30.0
_known: dict[str, TrialTime] = {}
_missing_until: dict[str, float] = {}


def network_seconds(recipe: Recipe) -> float:
    """Return the limit of processor time for one run of a recipe's networks, in seconds."""
    trials = _trials_of(recipe.weights())
    if not trials:
        # Less than the limit for an image, so that an endless run counts against its model.
        return float(settings.ITEM_SECONDS) / 2
    longest = TRIAL_FACTOR * max(trial.seconds for trial in trials)
    return float(min(settings.ITEM_SECONDS, max(settings.NETWORK_LEAST_SECONDS, longest)))


def preempt_after(recipe: Recipe, item: Item) -> float:
    """Return after how many seconds an image may be preempted for another owner who waits."""
    longest = _longest(recipe, item)
    if longest is None:
        return MAX_TURN_SECONDS
    return min(MAX_TURN_SECONDS, max(MIN_PREEMPT_SECONDS, longest))


def overlong_after(recipe: Recipe, item: Item) -> float:
    """Return after how many seconds an image throttles its owner's next turns.

    The limit depends on the model's own trial, so that slow apps and large images are not penalized.
    """
    longest = _longest(recipe, item)
    return math.inf if longest is None else max(MIN_OVERLONG_SECONDS, longest)


def _longest(recipe: Recipe, item: Item) -> float | None:
    """Return the longest expected time of an image in seconds, or None if its models have no trial.

    The expected time grows with the pixels of the image.
    """
    trials = _trials_of(recipe.weights())
    if not trials:
        return None
    file = item.input_file
    pixels = (file.width or 0) * (file.height or 0) if file is not None else 0
    running = sum(trial.seconds * max(1.0, pixels / trial.pixels) for trial in trials)
    loading = sum(min(trial.first_seconds, MAX_LOAD_SECONDS) for trial in trials)
    return loading + OVERLONG_FACTOR * running


def _trials_of(digests: Collection[str]) -> list[TrialTime]:
    """Return the trials of these models, without those that have none. Cached, as previews need it fast."""
    now = time.monotonic()
    unknown = [each for each in digests if each not in _known and _missing_until.get(each, 0.0) <= now]
    if unknown:
        _known.update(trial_times(unknown))
        _missing_until.update(dict.fromkeys(unknown, now + RECHECK_SECONDS))
    return [_known[digest] for digest in digests if digest in _known]
