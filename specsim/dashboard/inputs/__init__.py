"""What the user asks: the sidebar's fields, files and pasted text, each also a part of the address."""
