"""Serializers of detections for the API."""

from typing import Any

from rest_framework import serializers

from workers.thumbnail_sizes import PREVIEW_SIDE


class SizeSerializer(serializers.Serializer[Any]):
    """Size of the image that was sent, in pixels."""

    width = serializers.IntegerField()
    height = serializers.IntegerField()


class DetectionSerializer(serializers.Serializer[Any]):
    """One detection. Masks, poses and oriented boxes have further fields."""

    x = serializers.FloatField(help_text="Center of the box from the left, in pixels of the image sent.")
    y = serializers.FloatField(help_text="Center of the box from the top, in pixels.")
    width = serializers.FloatField(help_text="Width of the box, in pixels.")
    height = serializers.FloatField(help_text="Height of the box, in pixels.")
    confidence = serializers.FloatField(help_text="0 to 1.")
    class_id = serializers.IntegerField(help_text="Number of the class, from 0.")

    def get_fields(self) -> dict[str, Any]:
        # `class` is a Python keyword, so it cannot be an attribute.
        class_name = serializers.CharField(help_text="Name of the class.")
        return {**super().get_fields(), "class": class_name}


class DetectionsSerializer(serializers.Serializer[Any]):
    """Detections of an image, most confident first."""

    image = SizeSerializer()
    predictions = DetectionSerializer(many=True)


class DrawnSerializer(serializers.Serializer[Any]):
    """An image with the detections drawn on it."""

    content_type = serializers.CharField(help_text="Content type of the image.")
    image = serializers.CharField(
        help_text=f"The image, reduced to at most {PREVIEW_SIDE} pixels a side, in base64."
    )
    width = serializers.IntegerField()
    height = serializers.IntegerField()
