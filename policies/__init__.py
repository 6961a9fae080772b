"""Policies: what may leave, decided by documents that a compliance officer owns."""
