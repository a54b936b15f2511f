"""URLs of the site."""

from allauth.account.decorators import secure_admin_login
from allauth.account.views import email_verification_sent
from allauth.decorators import rate_limit
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularSwaggerSplitView

from accounts.rate_limits import CODE_LIMIT
from drive.urls import visit_urls
from ipau.common.api.problems import not_found
from ipau.health import healthz, readyz
from market.urls import model_urls
from processing.urls import home_urls

admin.autodiscover()
# The admin uses the site's sign-in. Its own would bypass e-mail codes and rate limits.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign,no-untyped-call]

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", healthz),
    path("readyz", readyz),
    path("v1", not_found),
    path("v1/", include("ipau.api_urls")),
    # Allauth's view with another rate limit: allauth's own count of wrong codes restarts with each new code.
    path(
        "accounts/confirm-email/",
        rate_limit(action=CODE_LIMIT)(email_verification_sent),  # type: ignore[no-untyped-call]  # allauth has no types
        name="account_email_verification_sent",
    ),
    path("accounts/", include("allauth.urls")),
    path("settings/", include("accounts.urls")),
    path("drive/", include("drive.urls")),
    path("s/", include(visit_urls)),
    path("apps/", include("market.urls")),
    path("models/", include(model_urls)),
    path("", include("processing.urls")),
    path("", include(home_urls)),
    path(
        "api/",
        SpectacularSwaggerSplitView.as_view(url_name="v1:openapi", template_name="api/docs.html"),
        name="api-docs",
    ),
    path("admin/", admin.site.urls),
]
handler400 = "ipau.common.api.problems.bad_request"
handler429 = "accounts.rate_limits.too_many_requests"
handler500 = "ipau.common.api.problems.server_error"
