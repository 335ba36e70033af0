/* os_room.h - what os_linux.c and the tests need of os_room.c beyond os.h. Everybody
 * else asks fipc_os_room(). */
#ifndef FIPC_OS_ROOM_H
#define FIPC_OS_ROOM_H

#include "base.h"

/* fipc_os_room(); on success *spare_bytes is about what would still be left of the
 * tightest limit, at most FIPC_ROOM_AMPLE. */
FIPC_MUST_USE int fipc_os_room_spare(uint64_t size, uint64_t *spare_bytes, const char **limit);

/* From here on nobody has to be careful: several processes in one step each
 * (see fipc_os_reserve()) do not use it up. */
#define FIPC_ROOM_AMPLE (UINT64_C(64) << 20)

/* The same for a system whose /proc and cgroup mounts lie below `root` ("":
 * this one), without what it remembers between calls. */
FIPC_MUST_USE int fipc_os_room_below(const char *root, uint64_t size, uint64_t *spare_bytes,
                                     const char **limit);

/* For tests: what a look grants is good for so long, not for 50 ms. Only while nobody looks. */
void fipc_os_room_keep(uint64_t kept_ms);

#endif
