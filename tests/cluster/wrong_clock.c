/* A wall clock that is wrong by as many seconds as a file says, and may jump: LD_PRELOAD this and
 * name the file in WRONG_CLOCK.  Only the wall clock: Debian's faketime breaks Python's sleep. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    char *named = getenv("WRONG_CLOCK");
    FILE *file = clock == CLOCK_REALTIME && named ? fopen(named, "r") : NULL;
    long wrong = 0;

    if (file) {
        if (fscanf(file, "%ld", &wrong) == 1)
            now->tv_sec += wrong;
        fclose(file);
    }
    return failed;
}
