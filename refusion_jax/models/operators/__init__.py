"""Fast primitives on feature maps, with derivative rules of their own."""
