"""A producer and a consumer on a pipe: each closes what it does not use."""

from multiprocessing import Pipe, Process


def consume(ends):
    ours, theirs = ends
    theirs.close()
    while True:
        try:
            print("received", ours.recv())
        except EOFError:
            print("the end")
            break
    ours.close()


if __name__ == "__main__":
    ends = Pipe()
    consumer = Process(target=consume, args=(ends,))
    consumer.start()
    theirs, ours = ends
    theirs.close()
    for number in range(5):
        ours.send(number)
    ours.close()
    consumer.join()
    print("exit code:", consumer.exitcode)
