"""Tests of ingest, each part by itself: no socket, no other process."""
