"""Notices that a job has moved, to its owner by mail and to a program of theirs by webhook.

`announcing` writes them down in the transaction that moves the job, `outbox` lends them to a worker and
keeps what came of it, `turns` sends what is due: `mails` writes mails; `bodies`, `signing`, `addresses` and
`posting` make deliveries.
"""
