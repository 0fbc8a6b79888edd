"""Tests of gateway, each part by itself: no socket, no other process."""
