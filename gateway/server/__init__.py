"""The ASGI application, the HTTP protocol that guards it, and what operators ask."""
