"""The thread pools of a web process: who waits in one holds up nobody in another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ipau.web.request_head import RequestHead

# Static files and health checks have threads of their own, so that they never queue behind other requests. So
# have large bodies, so that other requests never queue behind them.
# Readiness waits for other services, for seconds where they do not answer, and must not hold up health.
QUICK_THREADS = 4
READY_THREADS = 2


class ThreadPools:
    """One pool for each kind of request.

    Args:
        threads: of the general pool, `IPAU_WEB_THREADS`.
        streams: how many large bodies may be read at the same time.
    """

    def __init__(self, threads: int, streams: int):
        self.general = ThreadPoolExecutor(threads, "general")
        self._quick = ThreadPoolExecutor(QUICK_THREADS, "quick")
        self._ready = ThreadPoolExecutor(READY_THREADS, "ready")
        self._stream = ThreadPoolExecutor(streams, "stream")

    def choose(self, head: RequestHead, *, has_stream: bool) -> ThreadPoolExecutor:
        """Return the pool for a request. `has_stream`: its body is large and is read as it comes."""
        if has_stream:
            return self._stream
        if head.is_static or head.path == b"/healthz":
            return self._quick
        return self._ready if head.path == b"/readyz" else self.general

    def shutdown(self) -> None:
        """Take no more requests; those under way go on."""
        for pool in (self.general, self._quick, self._ready, self._stream):
            pool.shutdown(wait=False)
