"""Pages of feeds from a file of SQLite at a fixed rate, as plainly as a program can read them: the floor of P10.

`feed.mjs` starts it and says on standard input what to run for whom. It prints the times in ms, each from the moment when the
page was due. One connection, which has both statements prepared and has read every page once before the clock starts.
"""

import json
import random
import sqlite3
import sys
import time


def main():
    asked = json.load(sys.stdin)
    db = sqlite3.connect(f"file:{asked['file']}?mode=ro", uri=True, isolation_level=None)
    users = [(bytes.fromhex(app), bytes.fromhex(user), uid) for app, user, uid in asked["users"]]
    who, page, limit = asked["who"], asked["page"], asked["limit"]

    def read(app, user, uid):
        found = db.execute(who, (app, uid)).fetchall()
        rows = db.execute(page, (app, user, int(time.time() * 1_000), limit)).fetchall()
        if len(found) != 1 or len(rows) != limit:
            raise RuntimeError(f"{uid} was found {len(found)} times, with {len(rows)} items")

    for user in users:
        read(*user)
    times = []
    began = time.perf_counter()
    for number in range(asked["rate"] * asked["seconds"]):
        due = began + number / asked["rate"]
        # The system wakes nobody that exactly.
        while (left := due - time.perf_counter()) > 0:
            if left > 0.001:
                time.sleep(left - 0.001)
        read(*random.choice(users))
        times.append((time.perf_counter() - due) * 1_000)
    json.dump(times, sys.stdout)


main()
