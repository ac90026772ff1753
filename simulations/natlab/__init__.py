"""The NAT lab: real hosts and NATs in network namespaces, and opnode processes in them.

``spec`` says what there is, ``plan`` gives it addresses, ``rules`` turns a NAT into
nftables, ``lab`` builds and removes it, ``nodes`` runs opnode in it.
"""
