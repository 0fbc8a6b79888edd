"""`make soak`: the pipeline under load while it is broken in every way of the table, and each event accounted for.

* ``__main__.py``: the command; ``run.py``: one run, from the first process to the verdict.
* ``ledger.py``: what was sent, what each client got and was told, and so what is lost, doubled or out of order (pure);
  ``notices.py``: what a client was told to be missing (pure).
* ``flow.py``: the fake upstream's load, which counts on while nobody listens.
* ``person.py``: a client that comes back after any end of its connection.
* ``stage.py``: the processes, the people, and whether all is well; ``faults.py``: what breaks them, and the bounds.
* ``memory.py``: each process's memory over time; ``report.py``: the tables (pure).
"""
