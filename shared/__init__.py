"""What ingest and gateway both need; imports neither.

The wire: channels.py, protocol.py, split.py.  Redis: redis_address.py, names.py, demand.py with lua/, bus.py,
batch.py, held.py, indicator.py, notice.py, gap.py, control.py, census.py.  The process: config.py with variables.py,
reload.py, lifecycle.py, memory.py, backoff.py, logs.py, metrics.py.
For people: cli.py with cli_test.py, cli_inject.py, cli_replay.py, recording_cli.py and asking.py; private_bus.py with
fake_bus.py.
Recordings: recording.py is the format, recording_writer.py and recording_reader.py the files,
recorder.py fills them from Redis, survey.py counts what is in them, inspection.py draws that.
"""
