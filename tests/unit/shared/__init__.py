"""Tests of what ingest and gateway share."""
