"""The process that alone may change the kernel, and the daemon's side of it.

The daemon starts it before any thread and then gives up all rights (``launch``). It chooses a backend by letting each
one forward a packet (``probe``), checks what the daemon asks for (``fence``), finds the ways out (``routes``), and
serves (``server``) requests in frames (``wire``) that the daemon's ``client`` sends. A ``keeper`` waits for its end and
cleans up after it.
"""
