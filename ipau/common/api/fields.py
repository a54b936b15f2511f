"""Fields of request bodies and queries that name what they accept."""

from typing import Any

from rest_framework import serializers


class ChoiceField(serializers.ChoiceField):
    """One of several words. A wrong one is answered with the right ones."""

    default_error_messages = {"invalid_choice": "“{input}” is not accepted here. Accepted are: {choices}."}

    def fail(self, key: str, **kwargs: Any) -> Any:
        kwargs["input"] = str(kwargs.get("input"))[:100]
        super().fail(key, choices=", ".join(map(str, self.choices)), **kwargs)
