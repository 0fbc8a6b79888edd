"""What ingest and gateway both need; imports neither.

The wire: channels.py, protocol.py, split.py.  Redis: names.py, demand.py with lua/, bus.py, batch.py, held.py,
notice.py, gap.py, control.py.
The process: config.py, reload.py, lifecycle.py, backoff.py, logs.py, metrics.py.  For people: cli.py, private_bus.py
with fake_bus.py.
"""
