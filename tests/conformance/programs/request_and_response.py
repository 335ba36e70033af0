"""Requests and responses over a pipe: the child adds what it is sent."""

import multiprocessing


def add(ends):
    theirs, ours = ends
    theirs.close()
    while True:
        try:
            x, y = ours.recv()
        except EOFError:
            break
        ours.send(x + y)
    print("no more requests")
    ours.close()


if __name__ == "__main__":
    ends = multiprocessing.Pipe()
    adder = multiprocessing.Process(target=add, args=(ends,))
    adder.start()
    ours, theirs = ends
    theirs.close()
    ours.send((4, 5))
    print(ours.recv())
    ours.send(("smør", "rebrød"))
    print(ours.recv())
    ours.close()
    adder.join()
    print("exit code:", adder.exitcode)
