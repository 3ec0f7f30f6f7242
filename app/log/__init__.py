"""`/v1/log`: the transparency log for whoever checks what the service says."""
