"""What a process of ours is given and how it is confined: sockets, hand-over, hardening."""
