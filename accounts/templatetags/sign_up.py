"""The sign-up code on its own page, for sites without a mail server."""

from typing import Any

from allauth.account.internal.flows.email_verification_by_code import EMAIL_VERIFICATION_CODE_SESSION_KEY
from django import template
from django.conf import settings

register = template.Library()
CONSOLE = "django.core.mail.backends.console.EmailBackend"


@register.simple_tag(takes_context=True)
def code_without_mail_server(context: dict[str, Any]) -> str:
    """Return the code that this visitor was sent, if e-mails only go to the terminal; otherwise nothing.

    Such a site cannot check addresses anyway.
    """
    if settings.EMAIL_BACKEND != CONSOLE:
        return ""
    state = context["request"].session.get(EMAIL_VERIFICATION_CODE_SESSION_KEY) or {}
    return str(state.get("code", ""))
