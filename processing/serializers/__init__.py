"""Serializers of predictions, jobs, items and previews for the API."""

from processing.serializers.detections import DetectionsSerializer, DrawnSerializer
from processing.serializers.inputs import (
    AgainInputSerializer,
    DetectFormSerializer,
    DetectInputSerializer,
    ItemQuery,
    JobInputSerializer,
    PredictionInputSerializer,
    PreviewFormSerializer,
    PreviewInputSerializer,
    VersionedInputSerializer,
)
from processing.serializers.outputs import (
    INLINE_MAX_BYTES,
    HardwareSerializer,
    ItemSerializer,
    JobSerializer,
    PredictionSerializer,
    PreviewAnswerSerializer,
    QuoteSerializer,
    RunSerializer,
)

__all__ = [
    "INLINE_MAX_BYTES",
    "AgainInputSerializer",
    "DetectFormSerializer",
    "DetectInputSerializer",
    "DetectionsSerializer",
    "DrawnSerializer",
    "HardwareSerializer",
    "ItemQuery",
    "ItemSerializer",
    "JobInputSerializer",
    "JobSerializer",
    "PredictionInputSerializer",
    "PredictionSerializer",
    "PreviewAnswerSerializer",
    "PreviewFormSerializer",
    "PreviewInputSerializer",
    "QuoteSerializer",
    "RunSerializer",
    "VersionedInputSerializer",
]
