"""Commands that ask the supervisor or the gateway: starting, stopping, loading, chatting."""
