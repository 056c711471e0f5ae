"""The administration API, `/api/v1/admin`, for keys that may use it."""
