"""Which samples of a model people are shown."""

from collections.abc import Sequence

from market.models import ChosenSample, Sample, Version

AnySample = Sample | ChosenSample


def shown_samples(version: Version) -> Sequence[AnySample]:
    """Return the samples on which a version is shown: those of the owner's choosing, or what it was tried on.

    Of a chosen one that other weights were run on last, it is only told what it looks like.
    """
    if version.weights is None:
        return []
    chosen = [one for one in version.listing.chosen_samples.all() if one.before_id]
    for one in chosen:
        if one.weights_id != version.weights_id:
            one.weights_id, one.after_id, one.seen = None, None, []
    return chosen or list(version.weights.samples.all())
