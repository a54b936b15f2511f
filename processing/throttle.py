"""How many previews a person may ask for. They cost nothing, so somebody has to count."""

import time

from allauth.account.adapter import get_adapter
from django.core.cache import cache
from django.http import HttpRequest

from accounts.models import User
from ipau.common.errors import RateLimited

# A slider that is dragged without rest asks about five times a second.
SIGNED_IN_A_MINUTE = 600
OTHERS_A_MINUTE = 240


def count_preview(request: HttpRequest) -> None:
    """Count one more preview. Raises RateLimited where there were too many within a minute."""
    if isinstance(request.user, User):
        who, most = f"user:{request.user.pk}", SIGNED_IN_A_MINUTE
    else:
        who, most = f"address:{get_adapter(request).get_client_ip(request)}", OTHERS_A_MINUTE
    key = f"previews:{who}:{int(time.time() // 60)}"
    cache.add(key, 0, timeout=120)
    if cache.incr(key) > most:
        raise RateLimited("You have asked for many previews within a minute. Wait a little, then go on.")
