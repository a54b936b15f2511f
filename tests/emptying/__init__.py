"""How a database of the tests becomes again what it was after its migrations: an app that replaces `flush`.

Django's own rewrites all tables, sends `post_migrate` and so has each app ask for its rows one by one, after
each test that commits. Here only what has rows is emptied, and the rows of the beginning come from a copy.
"""
