"""`LoraConfig`, which releases keep in different modules."""

from .release import model_of

LoraConfig = model_of("LoraConfig")
