// A process tree that is hard to end: tree FIXTURE ROLL [GO [BYTES]]
//
// Each process of it appends "ROLE,PID,START TIME" to the file ROLL: "stays" if it lives until it is killed, "moves" if it
// ends by itself soon. "ready,0,0" says that the tree is complete. The first process lives until it is killed, or until the
// file GO is there, and then ends with 0 and leaves the others behind. The fixtures that write do so without end, or BYTES
// bytes and then end.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// However wrong a test goes, no process stays for longer, in seconds.
enum { LONGEST = 300, LONGEST_CHAIN = 60, BLOCK = 65536 };

static int roll;
static const char *go;
static char **arguments;
static time_t begun;

static void nap(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void note(const char *role) {
    char text[1024], line[128];
    int stat = open("/proc/self/stat", O_RDONLY);
    ssize_t length = read(stat, text, sizeof text - 1);
    close(stat);
    text[length > 0 ? length : 0] = 0;
    // The state, field 3, follows the last parenthesis; the start time is field 22.
    char *field = strrchr(text, ')');
    for (int n = 2; field && n < 22; n++) field = strchr(field + 1, ' ');
    int size = snprintf(line, sizeof line, "%s,%d,%s", role, (int)getpid(), field ? field + 1 : "0 ");
    *strchr(line, ' ') = '\n';
    size = strchr(line, '\n') + 1 - line;
    if (write(roll, line, size) != size) _exit(90);
}

static void ready(void) {
    if (write(roll, "ready,0,0\n", 10) != 10) _exit(90);
}

// Lives until it is killed; the first process also until it may go.
static void stay(int is_first) {
    while (time(NULL) - begun < LONGEST) {
        if (is_first && go && access(go, F_OK) == 0) _exit(0);
        nap(is_first && go ? 20 : 1000);
    }
    _exit(99);
}

static void ignore_term(void) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

static int is_child(void) {
    pid_t pid = fork();
    if (pid < 0) _exit(91);
    return pid == 0;
}

// A generation forks the next one and ends: nobody is where he was seen.
static void chain(void) {
    for (int generation = 0; time(NULL) - begun < LONGEST_CHAIN; generation++) {
        setsid();
        note("moves");
        if (generation == 10) ready();
        nap(2);
        if (!is_child()) _exit(0);
    }
    _exit(99);
}

static void full_write(const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t wrote = write(1, bytes, count);
        if (wrote <= 0) _exit(92);
        bytes += wrote, count -= wrote;
    }
}

// Lines of 16 bytes with their numbers, or one line that never ends.
static void flood(long long bytes, int lines) {
    static char block[BLOCK];
    memset(block, 'x', sizeof block);
    for (long long at = 0; bytes == 0 || at < bytes; at += BLOCK) {
        for (int n = 0; lines && n < BLOCK; n += 16) {
            char line[17];
            snprintf(line, sizeof line, "%015llx\n", (at + n) / 16);
            memcpy(block + n, line, 16);
        }
        full_write(block, bytes && bytes - at < BLOCK ? bytes - at : BLOCK);
    }
}

static void exec_again(const char *left) {
    arguments[1] = (char *)left;
    execv("/proc/self/exe", arguments);
    _exit(93);
}

int main(int argc, char **argv) {
    if (argc < 3) return 94;
    arguments = argv;
    begun = time(NULL);
    const char *fixture = argv[1];
    int is = 0;
    roll = open(argv[2], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (roll < 0) return 95;
    if (argc > 3 && *argv[3]) go = argv[3];
    long long bytes = argc > 4 ? atoll(argv[4]) : 0;
    if (strcmp(fixture, "child-2") == 0) exec_again("child-1");
    if (strcmp(fixture, "child-1") == 0) {
        note("stays");
        ready();
        stay(0);
    }
    if (strcmp(fixture, "fork-loop") == 0 && ++is) {
        note("stays");
        for (int width = 0; width < 2; width++) {
            if (is_child()) chain();
        }
    }
    if (strcmp(fixture, "setsid") == 0 && ++is) {
        note("stays");
        if (is_child()) {
            setsid();
            note("stays");
            ready();
            stay(0);
        }
    }
    if (strcmp(fixture, "double-fork") == 0 && ++is) {
        note("stays");
        if (is_child()) {
            setsid();
            note("moves");
            if (!is_child()) _exit(0);
            int null = open("/dev/null", O_RDWR);
            for (int fd = 0; fd < 3; fd++) dup2(null, fd);
            note("stays");
            ready();
            stay(0);
        }
        wait(NULL);
    }
    if (strcmp(fixture, "ignores-term") == 0 && ++is) {
        ignore_term();
        note("stays");
        if (is_child()) {
            setsid();
            note("stays");
            ready();
            stay(0);
        }
    }
    if (strcmp(fixture, "held-pipe") == 0 && ++is) {
        note("stays");
        if (is_child()) {
            setsid();
            if (!is_child()) _exit(0);
            ignore_term();
            note("stays");
            puts("held");
            fflush(stdout);
            ready();
            stay(0);
        }
        wait(NULL);
    }
    if ((strcmp(fixture, "gigabyte") == 0 || strcmp(fixture, "one-line") == 0) && ++is) {
        note("stays");
        full_write("begin\n", 6);
        if (bytes == 0) ready();
        flood(bytes, *fixture == 'g');
        full_write("\nend\n", 5);
        ready();
    }
    if (strcmp(fixture, "closed-stdin") == 0 && ++is) {
        char byte;
        if (read(0, &byte, 1) != 0) return 96;
        for (int fd = 0; fd < 3; fd++) close(fd);
        note("stays");
        if (is_child()) {
            note("stays");
            ready();
            stay(0);
        }
    }
    if (strcmp(fixture, "stopped") == 0 && ++is) {
        note("stays");
        if (is_child()) {
            setsid();
            note("stays");
            ready();
            raise(SIGSTOP);
            stay(0);
        }
        if (!go) raise(SIGSTOP);
    }
    if (strcmp(fixture, "exec-chain") == 0) exec_again("link-3");
    if (strcmp(fixture, "link-3") == 0) exec_again("link-2");
    if (strcmp(fixture, "link-2") == 0) exec_again("link-1");
    if (strcmp(fixture, "link-1") == 0 && ++is) {
        note("stays");
        if (is_child()) exec_again("child-2");
    }
    if (strcmp(fixture, "outlives") == 0 && ++is) {
        note("stays");
        if (is_child()) {
            note("moves");
            if (!is_child()) _exit(0);
            ignore_term();
            note("stays");
            ready();
            stay(0);
        }
        wait(NULL);
    }
    if (strcmp(fixture, "escapes") == 0 && ++is) {
        // Without parent, session and environment nobody can tell whose it is, unless by its cgroup.
        note("stays");
        if (is_child()) {
            setsid();
            note("moves");
            if (!is_child()) _exit(0);
            setsid();
            char *empty[] = {NULL};
            arguments[1] = "child-1";
            execve("/proc/self/exe", arguments, empty);
            _exit(93);
        }
        wait(NULL);
    }
    if (strcmp(fixture, "late-output") == 0 && ++is) {
        note("stays");
        if (is_child()) {
            ignore_term();
            pid_t first = getppid();
            note("stays");
            ready();
            while (time(NULL) - begun < LONGEST) {
                full_write(getppid() == first ? "before\n" : "after\n", getppid() == first ? 7 : 6);
                nap(10);
            }
            _exit(99);
        }
    }
    if (!is) return 97;
    stay(1);
}
