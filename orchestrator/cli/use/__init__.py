"""Commands that use what runs, as clients do."""
