from sglang.srt import own

__path__ += own(__name__)
