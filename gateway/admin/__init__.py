"""Administration over HTTP: this host, its supervisor, its logs, and open requests."""
