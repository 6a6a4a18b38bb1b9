"""Postgres and Valkey from wheels, for machines that have neither: the same servers, run from a data folder."""
