"""What ``opnode up`` adds to a node: files, chat, names, a socket to drive it by."""
