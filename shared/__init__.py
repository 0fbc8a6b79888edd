"""What ingest and gateway both need; imports neither.

The wire: channels.py, protocol.py, split.py.  Redis: redis_address.py, names.py, demand.py with lua/, bus.py,
batch.py, held.py, indicator.py, notice.py, gap.py, control.py, census.py.  The process: config.py with variables.py,
reload.py, lifecycle.py, backoff.py, logs.py, metrics.py.
For people: cli.py with cli_test.py, cli_inject.py, cli_replay.py and asking.py; private_bus.py with fake_bus.py.
"""
