// A job that writes down what it does: witness FILE MS [MS-OF-THE-SECOND-ATTEMPT ...]
//
// Appends "start,JOB,ATTEMPT,TIME,PID" and, when its time is over, "end,...", each synced before it goes on; says its attempt
// on standard output. The last time holds for all further attempts. A time that begins with t leaves a daemon behind while
// it runs: a grandchild in a session of its own. One that begins with f fails.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void nap(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0) {
    }
}

static void note(int fd, const char *what) {
    char line[256];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(line, sizeof line, "%s,%s,%s,%lld,%d\n", what, getenv("ORX_JOB_ID"), getenv("ORX_ATTEMPT"),
                          now.tv_sec * 1000LL + now.tv_nsec / 1000000, (int)getpid());
    if (write(fd, line, length) != length || fsync(fd) != 0) {
        perror("witness");
        exit(90);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 91;
    int attempt = atoi(getenv("ORX_ATTEMPT"));
    const char *time = argv[attempt + 1 < argc ? attempt + 1 : argc - 1];
    long ms = atol(time + (*time == 't' || *time == 'f'));
    int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0) return 92;
    if (*time == 't' && fork() == 0) {
        setsid();
        note(fd, "daemon");
        nap(ms);
        return 0;
    }
    note(fd, "start");
    printf("attempt %d\n", attempt);
    fflush(stdout);
    nap(ms);
    note(fd, "end");
    return *time == 'f' ? 1 : 0;
}
