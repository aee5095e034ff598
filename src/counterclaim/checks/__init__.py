"""Every way a behaviour claim fools its author, one check each."""
