/* Stands between a process and its disk and clock (LD_PRELOAD): says how far a run has come, and strikes at one
 * exact call.
 *
 *   FAULT_DIR    only files below this directory are looked at
 *   FAULT_MARKS  file that gets a line for each step: `phase NAME`, `send`, `effect`, `answer`, `hit OP PATH`
 *   FAULT_RULE   `PHASE OP PATH N ACTION`: what to do at the N-th call OP on a file whose path holds PATH, in that
 *                phase of the run's log; `*` stands for any
 *   FAULT_CLOCK  file of one 64-bit number: seconds by which the wall clock is wrong, now; it may change at any time
 *
 * OP: write, sync, unlink, lock (a write lock on a database file).
 * ACTION: kill-before, kill-half, kill-after: SIGKILL to itself, before, in mid and after the call;
 *   eio: the call fails and has no effect; lost: it has its effect and fails all the same;
 *   full: from here on no write gets in, and the first one is cut in the middle; stop: SIGSTOP before the call.
 *
 * `send`, `effect` and `answer` are the steps of a commit in SQLite's rollback mode: the first wish for a write lock,
 * the journal's unlink (which is the commit), and the lock given back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const char *dir;
static int marks = -1;
static char phase[32] = "";
static char want_phase[32], want_op[16], want_path[128], action[16];
static long want_nth;
static atomic_long seen;
static atomic_int disk_full;
static atomic_int swap_step; /* 0 idle, 1 sent, 2 in effect */
static const volatile int64_t *wrong_by;

__attribute__((constructor)) static void begin(void) {
  dir = getenv("FAULT_DIR");
  const char *path = getenv("FAULT_MARKS"), *rule = getenv("FAULT_RULE");
  if (path) marks = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (rule && sscanf(rule, "%31s %15s %127s %ld %15s", want_phase, want_op, want_path, &want_nth, action) != 5) {
    dprintf(2, "FAULT_RULE cannot be read: %s\n", rule);
    abort();
  }
  const char *clock = getenv("FAULT_CLOCK");
  if (clock) {
    int fd = open(clock, O_RDONLY | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *wrong_by, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
      dprintf(2, "FAULT_CLOCK cannot be mapped: %s\n", clock);
      abort();
    }
    wrong_by = map;
    close(fd);
  }
}

/* A raw call: our own writes must not come back to us. */
static void mark(const char *format, ...) {
  char line[PATH_MAX + 64];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (marks >= 0 && length > 0) syscall(SYS_write, marks, line, (size_t)length);
}

static int ours(const char *path) { return dir && !strncmp(path, dir, strlen(dir)); }

static int path_of(int fd, char *path) {
  char link[64];
  int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  errno = saved;
  path[length < 0 ? 0 : length] = 0;
  return ours(path);
}

static int is_database(const char *path) {
  size_t length = strlen(path);
  return length > 3 && !strcmp(path + length - 3, ".db");
}

static int is_journal(const char *path) {
  size_t length = strlen(path);
  return length > 8 && !strcmp(path + length - 8, "-journal");
}

static int fits(const char *want, const char *have) { return !strcmp(want, "*") || !strcmp(want, have); }

/* Whether this call is the one to strike at. */
static int struck(const char *op, const char *path) {
  if (!want_nth || !fits(want_phase, phase) || !fits(want_op, op)) return 0;
  if (strcmp(want_path, "*") && !strstr(path, want_path)) return 0;
  if (atomic_fetch_add(&seen, 1) + 1 != want_nth) return 0;
  mark("hit %s %s\n", op, path);
  return 1;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static int is(const char *name) { return !strcmp(action, name); }

/* Before a struck call: true if it must not be made, with errno set. */
static int before(void) {
  if (is("kill-before") || is("kill-half")) die();
  /* Sent to this very thread: a process-wide signal would let it go on until another thread has taken it. */
  if (is("stop")) syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGSTOP);
  if (is("eio")) errno = EIO;
  return is("eio");
}

static long after(long result) {
  if (is("kill-after")) die();
  if (!is("lost")) return result;
  errno = EIO;
  return -1;
}

/* The run's log names its phases; it is the only thing that we read of it. */
static void watch_log(const char *bytes, size_t length) {
  static const char key[] = "\"phase\":\"";
  const char *at = memmem(bytes, length, key, sizeof key - 1);
  if (!at || !memmem(bytes, length, "\"message\":\"phase\"", 17)) return;
  at += sizeof key - 1;
  size_t n = 0;
  while (at + n < bytes + length && at[n] != '"' && n + 1 < sizeof phase) n++;
  memcpy(phase, at, n);
  phase[n] = 0;
  atomic_store(&swap_step, 0);
  mark("phase %s\n", phase);
}

static ssize_t any_write(int fd, const void *bytes, size_t length, off64_t offset, int positioned) {
  char path[PATH_MAX];
  if (fd == 2) {
    /* The phase begins once its line is out. */
    ssize_t done = syscall(SYS_write, fd, bytes, length);
    watch_log(bytes, length);
    return done;
  }
#define RAW(n) (positioned ? syscall(SYS_pwrite64, fd, bytes, n, offset) : syscall(SYS_write, fd, bytes, n))
  if (!dir || fd < 3 || !path_of(fd, path)) return RAW(length);
  if (atomic_load(&disk_full)) {
    errno = ENOSPC;
    return -1;
  }
  if (!struck("write", path)) return RAW(length);
  if (is("full")) {
    atomic_store(&disk_full, 1);
    if (length > 1) return RAW(length / 2);
    errno = ENOSPC;
    return -1;
  }
  if (is("kill-half")) {
    RAW(length / 2);
    die();
  }
  if (before()) return -1;
  return after(RAW(length));
}

ssize_t write(int fd, const void *bytes, size_t length) { return any_write(fd, bytes, length, 0, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return any_write(fd, bytes, length, at, 1); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) { return any_write(fd, bytes, length, at, 1); }

static int any_sync(int fd, long call) {
  char path[PATH_MAX];
  if (!dir || !path_of(fd, path) || !struck("sync", path)) return (int)syscall(call, fd);
  if (before()) return -1;
  return (int)after(syscall(call, fd));
}

int fsync(int fd) { return any_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return any_sync(fd, SYS_fdatasync); }

int unlink(const char *path) {
  int strike = ours(path) && struck("unlink", path);
  if (strike && before()) return -1;
  int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (!done && ours(path) && is_journal(path)) {
    atomic_store(&swap_step, 2);
    mark("effect\n");
  }
  return strike ? (int)after(done) : done;
}

static int any_fcntl(int fd, int command, void *argument) {
  char path[PATH_MAX];
  struct flock *lock = argument;
  if (command != F_SETLK || !dir || !path_of(fd, path) || !is_database(path))
    return (int)syscall(SYS_fcntl, fd, command, argument);
  if (lock->l_type == F_WRLCK) {
    if (!atomic_exchange(&swap_step, 1)) mark("send\n");
    if (struck("lock", path) && before()) return -1;
  }
  int done = (int)syscall(SYS_fcntl, fd, command, argument);
  if (lock->l_type == F_UNLCK && atomic_load(&swap_step) == 2) {
    atomic_store(&swap_step, 0);
    mark("answer\n");
  }
  return done;
}

int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  return any_fcntl(fd, command, argument);
}

int fcntl64(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  return any_fcntl(fd, command, argument);
}

/* The wall clock. The monotonic one runs on, as it does when a machine's clock is stepped. */

static void now(struct timespec *time) {
  syscall(SYS_clock_gettime, CLOCK_REALTIME, time);
  if (wrong_by) time->tv_sec += *wrong_by;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return (int)syscall(SYS_clock_gettime, clock, time);
  now(time);
  return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  struct timespec precise;
  now(&precise);
  *time = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
  return 0;
}

time_t time(time_t *result) {
  struct timespec precise;
  now(&precise);
  if (result) *result = precise.tv_sec;
  return precise.tv_sec;
}

int timespec_get(struct timespec *time, int base) {
  now(time);
  return base;
}

/* Waits for a moment of the wrong clock, in short waits by the right one: as in the kernel, a step counts at once. */
static int wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
  const int64_t second = 1000000000, slice = 20000000;
  for (;;) {
    struct timespec wake, wrong;
    now(&wrong);
    int64_t left = (until->tv_sec - wrong.tv_sec) * second + until->tv_nsec - wrong.tv_nsec;
    if (left <= 0) return ETIMEDOUT;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &wake);
    wake.tv_nsec += left < slice ? left : slice;
    wake.tv_sec += wake.tv_nsec / second;
    wake.tv_nsec %= second;
    int woken = pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &wake);
    if (woken != ETIMEDOUT) return woken;
  }
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  return wait_until(condition, mutex, until);
}

/* What librdkafka waits with. In glibc its types are those of pthread under other names. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  int woken = wait_until((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
  return woken == 0 ? thrd_success : woken == ETIMEDOUT ? thrd_timedout : thrd_error;
}
