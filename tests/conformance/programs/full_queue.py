"""A full queue: the fourth put waits for ever, and the last line is never printed."""

import multiprocessing

if __name__ == "__main__":
    queue = multiprocessing.Queue(3)
    for word in ("one", "two", "three"):
        queue.put(word)
        print("put", word)
    print("full:", queue.full())
    queue.put("four")
    print("never printed")
