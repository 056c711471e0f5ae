TOOL_CALL_PARSER_NAMES = ["qwen", "qwen25"]
