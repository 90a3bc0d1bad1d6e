"""Several server processes on one port, for machines with cores to spare.

The kernel deals connections out to the processes; a session stays with the process that opened it.
`parent` starts them and keeps them alive; each `worker` is a whole server, and a `Member` of them:
a request that finds its session elsewhere is passed on.
"""
