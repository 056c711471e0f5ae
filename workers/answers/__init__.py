"""The answers that a worker gives: what each has said so far, and how one that another worker began
goes on."""
