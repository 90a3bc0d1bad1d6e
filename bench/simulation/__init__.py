"""The scheduler under a virtual clock: what batching costs and saves, without a server.

`cost.py` says what a run costs, as `measure.py` measured it; `workload.py` who comes when, with how
many timesteps; `systems.py` and `cellular.py` who is run with whom; `clock.py` lets time pass.
`studies.py` asks the questions, `fleet.py` those about many replicas, `page.py` and `plot.py` write
docs/scheduling.md. Start with `python -m bench.simulation --help`.
"""
