"""Spans of requests and jobs, sent by OTLP (docs/traces.md). Nothing of it runs unless it is on."""
