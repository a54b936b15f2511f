from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        # Tells the API's description about our keys; importing it registers it.
        import accounts.schema  # noqa: F401, PLC0415
