"""What operators see and do over HTTP: this host, its supervisor, its logs, and open requests."""
