"""Jobs that go on without their client: put, kept until they have ended, and told of."""
