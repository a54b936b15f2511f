"""Serializers of accounts."""

from rest_framework import serializers

from accounts.models import User


class AccountSerializer(serializers.Serializer[User]):
    """The account of the API key."""

    type = serializers.SerializerMethodField(help_text="Always `user`.")
    username = serializers.CharField(source="handle")
    name = serializers.CharField(source="get_full_name")
    github_url = serializers.SerializerMethodField(help_text="Always null.")

    def get_type(self, user: User) -> str:
        return "user"

    def get_github_url(self, user: User) -> str | None:
        return None
