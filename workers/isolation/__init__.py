"""Walls around a process that handles what strangers made: files, network, system calls, memory."""
