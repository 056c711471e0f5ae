"""The figures of the gateway, its workers and hosts, in Prometheus' format."""
