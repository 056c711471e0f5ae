"""What several engines' adapters need."""
