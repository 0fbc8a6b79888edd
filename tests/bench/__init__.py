"""`make bench`: the main job's numbers on real processes, printed against their targets.

* ``__main__.py``: starts the pipeline, runs it at full rate for a while, stops it, prints the table.
* ``process.py``: one child process, its log, its CPU and memory; ``pipeline.py``: all of them, in order.
* ``client.py``: a WebSocket client that costs little (also for `python -m tests.load`); ``probe.py``: one more client
  each second, timed.
* ``latency.py``: the gateways' own histograms; ``table.py``: the numbers, their targets, pass or miss (both pure).

Test data: ``simulator.py`` generates on one core, ``market.py`` sends that through the whole system, ``recording.py``
records beside it.
"""
