"""Images, sound and video, as vLLM itself reads them."""
