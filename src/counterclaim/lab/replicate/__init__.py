"""What reported numbers can support (``table``, claim by claim; ``judging``), and what released files give (``artifacts``)."""
