"""The interface of a supervisor to other processes than its own commands."""
