"""Tests in three tiers: unit (pure or in one process), integration (a real redis-server), acceptance (the Procfile)."""
