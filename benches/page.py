"""Pages of feeds from a file of SQLite, as plainly as a program can serve them: the floor of P10.

`feed.mjs` starts it, says in one line of standard input what to run for whom, and asks for pages as it asks the service. One
thread, and one connection to the file with both statements prepared. It reads no more of a request than whose page it is, and
answers the rows as they come. Ends with its standard input.
"""

import json
import os
import selectors
import socket
import sqlite3
import sys
import time

WHOSE = b"\r\nonbehalfof: "


def main():
    asked = json.loads(sys.stdin.readline())
    db = sqlite3.connect(f"file:{asked['file']}?mode=ro", uri=True, isolation_level=None)
    users = {uid: (bytes.fromhex(app), bytes.fromhex(user)) for app, user, uid in asked["users"]}
    who, page, limit = asked["who"], asked["page"], asked["limit"]

    def read(uid):
        app, user = users[uid]
        found = db.execute(who, (app, uid)).fetchall()
        rows = db.execute(page, (app, user, int(time.time() * 1_000), limit)).fetchall()
        if len(found) != 1 or len(rows) != limit:
            raise RuntimeError(f"{uid} was found {len(found)} times, with {len(rows)} items")
        return b"".join(str(row).encode() for row in rows)

    def answer(connection):
        request = connection.recv(65_536)
        if not request:
            events.unregister(connection)
            connection.close()
            return
        begin = request.lower().index(WHOSE) + len(WHOSE)
        body = read(request[begin : request.index(b"\r\n", begin)].decode())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def accept(listener):
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        events.register(connection, selectors.EVENT_READ, answer)

    for uid in users:
        read(uid)
    events = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    events.register(listener, selectors.EVENT_READ, accept)
    events.register(sys.stdin, selectors.EVENT_READ, lambda _: os._exit(0))
    print(listener.getsockname()[1], flush=True)
    while True:
        for ready, _ in events.select():
            ready.data(ready.fileobj)


main()
