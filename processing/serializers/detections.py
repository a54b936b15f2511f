"""What a detector found, as the API tells it."""

from typing import Any

from rest_framework import serializers

from workers.thumbnail_sizes import PREVIEW_SIDE


class SizeSerializer(serializers.Serializer[Any]):
    """Of the picture that was sent, in pixels."""

    width = serializers.IntegerField()
    height = serializers.IntegerField()


class DetectionSerializer(serializers.Serializer[Any]):
    """One thing that was found. Outlines, poses and turned boxes have further fields."""

    x = serializers.FloatField(help_text="The middle of its box, in pixels of the picture that was sent.")
    y = serializers.FloatField(help_text="The same from the top.")
    width = serializers.FloatField(help_text="Of its box.")
    height = serializers.FloatField(help_text="Of its box.")
    confidence = serializers.FloatField(help_text="0 to 1.")
    class_id = serializers.IntegerField(help_text="The class's number.")

    def get_fields(self) -> dict[str, Any]:
        # A word of Python's cannot be an attribute.
        named = serializers.CharField(help_text="The class's name.")
        return {**super().get_fields(), "class": named}


class DetectionsSerializer(serializers.Serializer[Any]):
    """What a detector found in a picture, the surest first."""

    image = SizeSerializer()
    predictions = DetectionSerializer(many=True)


class DrawnSerializer(serializers.Serializer[Any]):
    """A picture with what was found drawn into it."""

    content_type = serializers.CharField(help_text="Of the picture.")
    image = serializers.CharField(
        help_text=f"The picture, reduced to {PREVIEW_SIDE} pixels a side, in base64."
    )
    width = serializers.IntegerField()
    height = serializers.IntegerField()
