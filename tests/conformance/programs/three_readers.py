"""Three readers: the parent closes the queue at once, and all items still arrive."""

import os
import time
from multiprocessing import Process, Queue


def read_later(queue, seconds):
    time.sleep(seconds)
    print("item:", queue.get(), "pid:", os.getpid())


if __name__ == "__main__":
    queue = Queue(3)
    for word in ("one", "two", "three"):
        queue.put(word)
    readers = [Process(target=read_later, args=(queue, seconds)) for seconds in (1, 2, 3)]
    for reader in readers:
        reader.start()
    queue.close()
    print("the parent's statements are done")
    try:
        queue.put("four")
    except ValueError:
        print("ValueError: the queue is closed")
    for reader in readers:
        reader.join()
        print("exit code:", reader.exitcode)
