"""Settings of Django REST framework and drf-spectacular (OpenAPI) that are the same on every site."""

from typing import Any

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "ipau.common.api.views.handle_exception",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "IPAU API",
    "DESCRIPTION": "Run image-processing apps on images: files, predictions, jobs, previews.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SORT_OPERATION_PARAMETERS": False,
    "WEBHOOKS": ["processing.api.webhooks.PREDICTION_MOVED", "processing.api.webhooks.JOB_MOVED"],
    "ENUM_NAME_OVERRIDES": {
        "StatusEnum": "processing.models.State.choices",
        "FileStateEnum": "drive.models.FileState.choices",
        "DeliveryStateEnum": "processing.models.DeliveryState.choices",
        "DeviceKindEnum": "market.models.DeviceKind.choices",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "ipau.common.api.openapi.describe_common",
        "processing.api.openapi.describe_apps",
    ],
}
