"""When a web process ends: after its master, or to make room for a fresh one."""
