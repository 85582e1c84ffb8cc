"""What a draft-verify round does and costs."""
