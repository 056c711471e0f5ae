from sglang.srt import own

__path__[:0] = own(__name__)
