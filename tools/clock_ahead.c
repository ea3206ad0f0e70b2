/* Preloaded into a program, sets its clock ahead by the seconds in CLOCK_AHEAD_S; what is monotonic stays. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    const char *ahead = getenv("CLOCK_AHEAD_S");
    if (result == 0 && clock == CLOCK_REALTIME && ahead != NULL)
        now->tv_sec += atol(ahead);
    return result;
}
