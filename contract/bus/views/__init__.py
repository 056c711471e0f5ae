"""Views for operators over facts of several processes."""
