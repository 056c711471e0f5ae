"""Trains and checks the demo model; see scripts/train_demo_model.py."""
