"""A process that serves clients; any number may run on one port.

An event comes in through listener.py, is routed by hub.py and leaves through outbox.py, where conflate.py keeps the
queue of a slow client short.  A subscription comes in through server.py and client.py, is judged by session.py, counted
by hub.py and asked for by interest.py.  held.py knows what upstream confirmed, for the acks.
"""
