"""What a person starts that is no stage: the command `viewfinder`. Tools use stages; nothing uses tools."""
