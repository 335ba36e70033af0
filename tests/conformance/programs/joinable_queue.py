"""A joinable queue with a sentinel: what lies behind it is never taken, and join waits for ever."""

import multiprocessing
import time


def consume(queue):
    while True:
        message = queue.get()
        if message is None:
            break
        print("got", message)
        queue.task_done()
        time.sleep(1)
    print("the consumer leaves")


if __name__ == "__main__":
    queue = multiprocessing.JoinableQueue()
    multiprocessing.Process(target=consume, args=(queue,), daemon=True).start()
    for message in ("first", "second", "third", None, "fourth", "fifth"):
        queue.put(message)
    print("everything is put")
    queue.join()
    print("never printed")
