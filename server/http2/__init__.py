"""A transport of our own: gRPC over HTTP/2 in the event loop, on h2.

From the socket inwards: `server` listens; `connection` is one client's connection, which reads and
writes frames through `protocol`; `calls` are the kinds of calls, whose messages `messages` takes
out of the frames and whose headers `headers` reads and writes; `methods` says what there is to
call.
"""
