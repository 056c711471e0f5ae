"""Answers on their way to clients: events from Redis, put in order, written as they come."""
