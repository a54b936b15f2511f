"""URLs of apps, mounted under /apps/, and of models, mounted under /models/."""

from django.urls import path

from market.views import apps, model_details, models

app_name = "market"
urlpatterns = [path("", apps.apps, name="apps")]

model_urls = (
    [
        path("", models.list_page, name="list"),
        path("new/", models.new_page, name="new"),
        path("conversions/<uuid:conversion_id>/", models.conversion_page, name="conversion"),
        path("conversions/<uuid:conversion_id>/state/", models.conversion_state, name="conversion-state"),
        path("conversions/<uuid:conversion_id>/confirm/", models.confirm, name="conversion-confirm"),
        path("conversions/<uuid:conversion_id>/retry/", models.retry, name="conversion-retry"),
        path("samples/<uuid:sample_id>/<slug:which>.webp", models.sample, name="sample"),
        path("<slug:name>/about/", model_details.about, name="about"),
        path("<slug:name>/samples/", model_details.samples, name="samples"),
        path("<slug:name>/share/", models.share, name="share"),
        path("<slug:name>/delete/", models.delete, name="delete"),
    ],
    "models",
)
