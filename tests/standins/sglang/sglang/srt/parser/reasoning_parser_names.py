REASONING_PARSER_NAMES = ["deepseek-r1", "deepseek-v3", "qwen3"]
