"""Trying a converted model: how long it takes here, and what it makes of a few pictures of ours."""
