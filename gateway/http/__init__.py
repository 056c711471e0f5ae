"""Requests and answers as HTTP has them: errors, headers, bodies, keys and hosts."""
