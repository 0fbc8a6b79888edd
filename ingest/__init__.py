"""The one process that talks to Polygon.

An event comes in through polygon.py (or simulator.py; or replay.py plays a recording, timestamps.py moves its times),
is taken by intake.py, collected by batch.py and sent by publisher.py.  Demand comes in through demand_watch.py, is
compared by reconcile.py and goes out through upstream.py.
session.py is the conversation's state, overlap.py what may come twice in it, state.py what operators see of it, ops.py
what monitors do, logbook.py how far back the log reaches, tape.py what recorders get.  slot.py is the right to do all
this, tenure.py what runs while we have it.

What a gap upstream swallowed is fetched by backfill.py (rest.py asks, history.py turns the answers into events,
delivered.py knows which of them clients have already) and delivered by refill.py.
"""
