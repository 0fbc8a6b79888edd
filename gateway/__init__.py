"""A process that serves clients; any number may run on one port.

An event comes in through listener.py, is routed by hub.py to groups.py and leaves through outbox.py, where conflate.py
keeps the queue of a slow client short.  A subscription comes in through server.py and client.py, is judged by
session.py (keys.py says which keys are good), counted by hub.py and asked for by interest.py.  held.py knows what
upstream confirmed, for the acks, and whether it is test data; census.py tells how many clients get a channel.

After a hole in the live stream catchup.py goes on from log.py.  A client that comes back (returning.py) has its name
and record in resume.py, gets from replay.py what it missed (missed.py says since when; reader.py reads the log for all
of these at once), and what arrives is known by counted.py and receipt.py.
"""
