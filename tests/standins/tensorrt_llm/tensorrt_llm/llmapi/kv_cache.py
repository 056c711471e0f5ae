"""`KvCacheConfig`: `max_tokens`, and no `max_tokens_in_paged_kv_cache`."""

from ..release import model_of

KvCacheConfig = model_of("KvCacheConfig")
