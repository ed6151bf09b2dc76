/* Preloaded into orx: makes calls on the store's files fail, or ends the process there. These are the calls that orx and
 * its SQLite import from libc (`objdump -T`); the index of the WAL is written through a mapping and only sized by calls.
 * What it is to do stands in the environment:
 *   ORX_FAIL_UNDER  the folder of the store: other files are never hit
 *   ORX_FAIL_FILE   the name of a file in it (`.`: the folder itself); all of them where it is not set
 *   ORX_FAIL_OPS    sync or write (which is also ftruncate)
 *   ORX_FAIL_KIND   eio enospc | short: half is written | torn: half is written, then SIGKILL | before, after: SIGKILL
 *   ORX_FAIL_AT     at which of these calls, from 1; 0: at none
 *   ORX_FAIL_TIMES  how many in a row
 *   ORX_FAIL_COUNT  a file of 8 bytes that counts these calls, over several processes
 *   ORX_FAIL_LOG    where it writes `n op file` for each call that it hits; at 0 for each call */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NOTHING, EIO_, ENOSPC_, SHORT, TORN, BEFORE, AFTER };

static const char *under, *only, *ops, *log_path;
static enum kind kind;
static uint64_t at, times;
static uint64_t *counter;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char *text(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static void set_up(void) {
    static const char *kinds[] = {"", "eio", "enospc", "short", "torn", "before", "after"};
    under = text("ORX_FAIL_UNDER");
    only = getenv("ORX_FAIL_FILE");
    ops = text("ORX_FAIL_OPS");
    log_path = text("ORX_FAIL_LOG");
    at = strtoull(text("ORX_FAIL_AT"), NULL, 10);
    times = strtoull(text("ORX_FAIL_TIMES"), NULL, 10);
    for (int k = EIO_; k <= AFTER; k++)
        if (strcmp(text("ORX_FAIL_KIND"), kinds[k]) == 0) kind = (enum kind)k;
    int fd = (int)syscall(SYS_open, text("ORX_FAIL_COUNT"), O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) counter = map;
    syscall(SYS_close, fd);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void tell(uint64_t n, const char *op, const char *file) {
    char line[512];
    int length = snprintf(line, sizeof line, "%llu %s %s\n", (unsigned long long)n, op, file);
    int fd = (int)syscall(SYS_open, log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_write, fd, line, (size_t)length) != length) abort(); /* nobody may think it was not hit */
    syscall(SYS_close, fd);
}

/* What is to happen to this call; a kill before it happens here. */
static enum kind hit(int fd, const char *class, const char *op) {
    pthread_once(&once, set_up);
    if (!counter || strcmp(ops, class) != 0) return NOTHING;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return NOTHING;
    path[length] = 0;
    size_t skip = strlen(under);
    if (strncmp(path, under, skip) != 0 || (path[skip] != '/' && path[skip] != 0)) return NOTHING;
    const char *file = path[skip] ? path + skip + 1 : ".";
    if (only && strcmp(file, only) != 0) return NOTHING;
    uint64_t n = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    if (at == 0) tell(n, op, file);
    if (at == 0 || n < at || n - at >= times) return NOTHING;
    tell(n, op, file);
    if (kind == BEFORE) die();
    return kind;
}

static int failed(enum kind what) {
    errno = what == ENOSPC_ ? ENOSPC : EIO;
    return -1;
}

/* The real function, looked up once. */
#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* A call that either happens or does not. */
#define WHOLE(class, name, params, fd, args) \
    int name params { \
        REAL(name); \
        enum kind what = hit(fd, class, #name); \
        if (what == EIO_ || what == ENOSPC_) return failed(what); \
        if (what == SHORT) return failed(EIO_); \
        if (what == TORN) die(); \
        int result = real args; \
        if (what == AFTER) die(); \
        return result; \
    }

WHOLE("sync", fsync, (int fd), fd, (fd))
WHOLE("sync", fdatasync, (int fd), fd, (fd))
WHOLE("write", ftruncate, (int fd, off_t size), fd, (fd, size))
WHOLE("write", ftruncate64, (int fd, off64_t size), fd, (fd, size))

/* A call that may be done in part. */
#define PARTIAL(name, params, fd, size, args, half) \
    ssize_t name params { \
        REAL(name); \
        enum kind what = hit(fd, "write", #name); \
        if (what == EIO_ || what == ENOSPC_) return failed(what); \
        if (what == TORN) { \
            if (real half < 0) abort(); \
            die(); \
        } \
        if (what == SHORT && (size) > 1) return real half; \
        ssize_t result = real args; \
        if (what == AFTER) die(); \
        return result; \
    }

PARTIAL(write, (int fd, const void *from, size_t size), fd, size, (fd, from, size), (fd, from, size / 2))
PARTIAL(pwrite, (int fd, const void *from, size_t size, off_t to), fd, size, (fd, from, size, to), (fd, from, size / 2, to))
PARTIAL(pwrite64, (int fd, const void *from, size_t size, off64_t to), fd, size, (fd, from, size, to), (fd, from, size / 2, to))
PARTIAL(writev, (int fd, const struct iovec *parts, int count), fd, count, (fd, parts, count), (fd, parts, count / 2))
