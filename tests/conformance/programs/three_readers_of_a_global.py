"""Three readers of a global queue, which children have only when they are forked."""

import multiprocessing
import os
import time

queue = multiprocessing.Queue(3)


def read_later(seconds):
    time.sleep(seconds)
    print("item:", queue.get(), "pid:", os.getpid())


if __name__ == "__main__":
    for word in ("one", "two", "three"):
        queue.put(word)
    for seconds in (1, 2, 3):
        multiprocessing.Process(target=read_later, args=(seconds,)).start()
    queue.close()
    print("the parent's statements are done")
