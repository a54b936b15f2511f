"""Serializer fields with error messages that list the accepted values."""

from typing import Any

from rest_framework import serializers


class ChoiceField(serializers.ChoiceField):
    """Choice field. The error message lists the valid choices."""

    default_error_messages = {"invalid_choice": "“{input}” is not a valid choice. Use one of: {choices}."}

    def fail(self, key: str, **kwargs: Any) -> Any:
        kwargs["input"] = str(kwargs.get("input"))[:100]
        super().fail(key, choices=", ".join(map(str, self.choices)), **kwargs)
