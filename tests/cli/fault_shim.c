/* Preloaded into the program under test: counts the system calls that change a file system, and at chosen ones kills the process or
 * lets the call fail. Does not see the standard streams, nor calls that only read.
 *
 *   FAULT_LOG=FILE     appends the name of each call, a line each
 *   FAULT_AT=K         the call to strike, from 1; FAULT_LAST=L goes on to call L
 *   FAULT_ACTION=A     kill (before the call), torn (a write is half done, then kill), short (a write is half done), or an errno's
 *                      number
 *   FAULT_NO_FLAGS=E   renameat2 with flags fails with this errno, as on a file system that cannot exchange two names
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static long number_of(const char* name, long fallback) {
  const char* const text = getenv(name);
  return text != NULL ? atol(text) : fallback;
}

static void log_call(const char* name) {
  const char* const path = getenv("FAULT_LOG");
  if (path == NULL) return;
  const long file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);
  char line[64];
  strncpy(line, name, sizeof(line) - 2);
  line[sizeof(line) - 2] = '\0';
  strcat(line, "\n");
  syscall(SYS_write, file, line, strlen(line));
  syscall(SYS_close, file);
}

static void die(void) {
  syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  for (;;) syscall(SYS_pause);
}

/* What is to become of this call: 0 nothing, -1 half a write, -2 half a write and death, else an errno. */
static int strike(const char* name, int is_write) {
  const long call = atomic_fetch_add(&calls, 1) + 1;
  log_call(name);
  const long first = number_of("FAULT_AT", 0);
  if (first == 0 || call < first || call > number_of("FAULT_LAST", first)) return 0;
  const char* const action = getenv("FAULT_ACTION");
  if (action == NULL) return 0;
  if (strcmp(action, "kill") == 0) die();
  if (strcmp(action, "torn") == 0) {
    if (is_write) return -2;
    die();
  }
  if (strcmp(action, "short") == 0) return is_write ? -1 : 0;
  return atoi(action);
}

#define STRUCK(name)                  \
  const int fault = strike(name, 0);  \
  if (fault > 0) {                    \
    errno = fault;                    \
    return -1;                        \
  }

static int open_file(int folder, const char* path, int flags, mode_t mode) {
  if ((flags & (O_CREAT | O_TRUNC)) != 0) {
    STRUCK("open")
  }
  return (int)syscall(SYS_openat, folder, path, flags, mode);
}

static mode_t mode_of(int flags, va_list arguments) { return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0; }

#define OPEN(name)                                              \
  int name(const char* path, int flags, ...) {                  \
    va_list arguments;                                          \
    va_start(arguments, flags);                                 \
    const mode_t mode = mode_of(flags, arguments);              \
    va_end(arguments);                                          \
    return open_file(AT_FDCWD, path, flags, mode);              \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                            \
  int name(int folder, const char* path, int flags, ...) {      \
    va_list arguments;                                          \
    va_start(arguments, flags);                                 \
    const mode_t mode = mode_of(flags, arguments);              \
    va_end(arguments);                                          \
    return open_file(folder, path, flags, mode);                \
  }
OPENAT(openat)
OPENAT(openat64)

static ssize_t write_file(int file, const void* bytes, size_t count, off_t offset, int at_offset, const char* name) {
  if (file > STDERR_FILENO) {
    const int fault = strike(name, 1);
    if (fault > 0) {
      errno = fault;
      return -1;
    }
    if (fault < 0) {
      const size_t half = count / 2 > 0 ? count / 2 : count;
      const ssize_t written = at_offset ? syscall(SYS_pwrite64, file, bytes, half, offset) : syscall(SYS_write, file, bytes, half);
      if (fault == -2) die();
      return written;
    }
  }
  return at_offset ? syscall(SYS_pwrite64, file, bytes, count, offset) : syscall(SYS_write, file, bytes, count);
}

ssize_t write(int file, const void* bytes, size_t count) { return write_file(file, bytes, count, 0, 0, "write"); }
ssize_t pwrite(int file, const void* bytes, size_t count, off_t offset) { return write_file(file, bytes, count, offset, 1, "pwrite"); }
ssize_t pwrite64(int file, const void* bytes, size_t count, off_t offset) { return write_file(file, bytes, count, offset, 1, "pwrite"); }

int ftruncate(int file, off_t length) {
  STRUCK("ftruncate")
  return (int)syscall(SYS_ftruncate, file, length);
}
int ftruncate64(int file, off_t length) {
  STRUCK("ftruncate")
  return (int)syscall(SYS_ftruncate, file, length);
}
int fsync(int file) {
  STRUCK("fsync")
  return (int)syscall(SYS_fsync, file);
}
int rename(const char* from, const char* to) {
  STRUCK("rename")
  return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  STRUCK("renameat2")
  if (flags != 0 && number_of("FAULT_NO_FLAGS", 0) != 0) {
    errno = (int)number_of("FAULT_NO_FLAGS", 0);
    return -1;
  }
  return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}
int unlink(const char* path) {
  STRUCK("unlink")
  return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
int rmdir(const char* path) {
  STRUCK("rmdir")
  return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}
int remove(const char* path) {
  STRUCK("remove")
  const int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  return result != 0 && errno == EISDIR ? (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR) : result;
}
int unlinkat(int folder, const char* path, int flags) {
  STRUCK("unlinkat")
  return (int)syscall(SYS_unlinkat, folder, path, flags);
}
int mkdir(const char* path, mode_t mode) {
  STRUCK("mkdir")
  return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
