"""Thread pools of a web process, one for each kind of request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ipau.web.request_head import RequestHead

# Static files and health checks have their own threads, so they never queue behind other requests. So have
# large bodies, so that other requests never queue behind them.
# Readiness checks wait seconds for services that do not answer, so they must not block health checks.
QUICK_THREADS = 4
READY_THREADS = 2


class ThreadPools:
    """One thread pool for each kind of request.

    Args:
        threads: threads of the general pool, `IPAU_WEB_THREADS`.
        streams: maximum number of large bodies that are read at the same time.
    """

    def __init__(self, threads: int, streams: int):
        self.general = ThreadPoolExecutor(threads, "general")
        self._quick = ThreadPoolExecutor(QUICK_THREADS, "quick")
        self._ready = ThreadPoolExecutor(READY_THREADS, "ready")
        self._stream = ThreadPoolExecutor(streams, "stream")

    def choose(self, head: RequestHead, *, has_stream: bool) -> ThreadPoolExecutor:
        """Return the pool for a request. `has_stream`: its body is large and read while it arrives."""
        if has_stream:
            return self._stream
        if head.is_static or head.path == b"/healthz":
            return self._quick
        return self._ready if head.path == b"/readyz" else self.general

    def shutdown(self) -> None:
        """Accept no more requests. Running ones continue."""
        for pool in (self.general, self._quick, self._ready, self._stream):
            pool.shutdown(wait=False)
