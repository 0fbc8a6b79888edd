"""The far side of our edges, as real servers.

* ``polygon.py``: what tests import, and the program ``python -m tests.fakes.polygon``.
* ``server.py``: ``FakePolygon``: who is connected, who holds what, and what upstream does to them.
* ``connection.py``: one client: read, log, answer in order.
* ``session.py``: what Polygon says to one client, and the knobs that change it (pure).
* ``load.py``: trades and quotes at a steady rate, numbered per channel so that a checker can prove "exactly once".
* ``rest.py``: ``FakeRest``: Polygon's REST side, for the trades, quotes and bars that a test tells it of.
* ``client.py``: a bare client, for tests that read as transcripts.
"""
