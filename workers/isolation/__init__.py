"""Linux isolation of a process that handles untrusted files: Landlock, seccomp, namespaces, priorities."""
