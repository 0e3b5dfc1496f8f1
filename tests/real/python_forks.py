"""A thread pool busy with logging, time and json, while the main thread forks.

    python_forks.py FORKS LIMIT_S LOG_FILE

First FORKS children by os.fork, each of which logs a line, takes a lock that the pool's threads
share, and computes; a child that is not gone in LIMIT_S seconds is hung, and ends the test. Then
pools of processes, forked by the main thread and, as their workers are replaced, by a thread of
multiprocessing's own. Prints what went wrong, and exits 1 if anything did.
"""

import concurrent.futures
import json
import logging
import multiprocessing
import os
import select
import signal
import sys
import threading
import time

THREADS = 4
POOLS = 4
TASKS = 60
MOMENT = 1_000_000_000

logger = logging.getLogger("forks")
shared_lock = threading.Lock()
shared = {"rounds": 0}
stop = threading.Event()


def compute(number):
    """Something with a known answer that goes through time and json."""
    day = time.strftime("%Y-%m-%d", time.gmtime(MOMENT + 86400 * number))
    text = json.dumps({"number": number, "day": day, "squares": [i * i for i in range(200)]})
    document = json.loads(text)
    return f'{document["day"]} {sum(document["squares"]) + document["number"]}'


def busy(started):
    """What a thread of the pool does until it is told to stop; returns its number of rounds."""
    rounds = 0
    while not stop.is_set():
        fields = time.localtime(MOMENT + rounds)
        assert time.mktime(fields) == MOMENT + rounds
        compute(rounds % 1000)
        logger.info("round %d", rounds)
        with shared_lock:
            shared["rounds"] += 1
            assert time.strftime("%Y", time.localtime(MOMENT)) == "2001"
        rounds += 1
        started.set()
    return rounds


def child(number, expected):
    """What a forked child does; returns its exit status."""
    logger.info("child %d", number)
    with shared_lock:
        ok = compute(number) == expected
    logger.info("child %d is done", number)
    return 0 if ok else 1


def fork_child(number, limit):
    """Forks one child; returns what is wrong with it, or None."""
    expected = compute(number)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = child(number, expected)
        finally:
            os._exit(status)
    descriptor = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    ended = poller.poll(limit * 1000)
    os.close(descriptor)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if not ended:
        return f"child {number} hung"
    return f"child {number} ended with wait status {status}" if status else None


def pool_task(number):
    """Runs in a process of the pool."""
    logger.info("task %d", number)
    with shared_lock:
        return compute(number)


def run_pools(limit):
    """Returns what is wrong with the results of the pools, or None."""
    context = multiprocessing.get_context("fork")
    expected = [compute(number) for number in range(TASKS)]
    for number in range(POOLS):
        with context.Pool(2, maxtasksperchild=5) as pool:
            try:
                results = pool.map_async(pool_task, range(TASKS), chunksize=1).get(limit)
            except multiprocessing.TimeoutError:
                print(f"pool {number} hung", flush=True)
                os._exit(1)  # to leave the pool properly would hang as well
        if results != expected:
            return f"pool {number} computed something else"
    return None


def check_log(path, forks):
    """Returns what is wrong with the log, or None."""
    with open(path, encoding="utf-8") as log:
        messages = [line.rstrip("\n").partition("] ")[2] for line in log]
    for number in range(forks):
        for message in (f"child {number}", f"child {number} is done"):
            if messages.count(message) != 1:
                return f"the log has {messages.count(message)} lines {message!r}"
    tasks = sum(message.startswith("task ") for message in messages)
    return None if tasks == POOLS * TASKS else f"the log has {tasks} tasks"


def main():
    forks, limit, path = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s [%(process)d %(threadName)s] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    wrong = None
    with concurrent.futures.ThreadPoolExecutor(THREADS) as executor:
        started = [threading.Event() for _ in range(THREADS)]
        futures = [executor.submit(busy, event) for event in started]
        for event in started:
            event.wait()
        begin = time.monotonic()
        forked = 0
        while forked < forks and not wrong:
            wrong = fork_child(forked, limit)
            forked += 1
        middle = time.monotonic()
        wrong = wrong or run_pools(limit * 3)
        end = time.monotonic()
        stop.set()
        rounds = sum(future.result() for future in futures)
    if rounds != shared["rounds"]:
        wrong = wrong or f'{rounds} rounds were made, but {shared["rounds"]} counted'
    wrong = wrong or check_log(path, forks)
    print(f"{forked} forks in {middle - begin:.1f} s, {POOLS} pools in {end - middle:.1f} s, "
          f"{rounds} rounds")
    if wrong:
        print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
