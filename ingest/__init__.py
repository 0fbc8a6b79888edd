"""The one process that talks to Polygon.

An event comes in through polygon.py or rehearsal.py, is taken by intake.py, collected by batch.py and sent by
publisher.py.  Demand comes in through demand_watch.py, is compared by reconcile.py and goes out through upstream.py.
answered.py has the last batches still, for a Redis that lost them; lost.py knows those that Redis never got.
session.py is the conversation's state, overlap.py what may come twice in it, state.py what operators see of it, ops.py
what monitors do, logbook.py how far back the log reaches (old_log.py: that of earlier epochs), tape.py what recorders
get.  slot.py is the right to do all this, tenure.py what runs while we have it.

open_gap.py says what clients are told of a gap while it lasts, awake.py since when the time of reception tells nothing.
What a gap upstream swallowed is fetched by backfill.py (rest.py asks, history.py turns the answers into events,
delivered.py knows which of them clients have already) and delivered by refill.py.

Test data: rehearsal.py plays upstream with a player (player.py; players.py makes them): the market of simulator/, or
replay.py with a recording, whose times timestamps.py may move.  mix.py puts simulated symbols beside live data,
control.py does what operators ask while all this runs, with inject.py to judge events of theirs and census.py to count
whom they reached; switches.py keeps what they switched for the next ingest, whole.py up to when nothing is missing.
"""
