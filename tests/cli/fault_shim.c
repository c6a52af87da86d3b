/* Preloaded into the program under test: counts the system calls that change a file system, and at chosen ones kills the process or
 * lets the call fail. Does not see the standard streams, nor calls that only read, unless FAULT_READS asks for those.
 *
 *   FAULT_LOG=FILE     appends the name of each call, a line each
 *   FAULT_TRACE=FILE   appends each call with its paths instead: name, path, second path, with tabs between them
 *   FAULT_READS=PART   counts only calls that read (open, read, pread, mmap, stat, opendir) something whose path holds PART
 *   FAULT_AT=K         the call to strike, from 1; FAULT_LAST=L goes on to call L
 *   FAULT_ACTION=A     kill (before the call), torn (a write is half done, then kill), short (a write is half done), or an errno's
 *                      number
 *   FAULT_NO_FLAGS=E   renameat2 with flags fails with this errno, as on a file system that cannot exchange two names
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static long number_of(const char* name, long fallback) {
  const char* const text = getenv(name);
  return text != NULL ? atol(text) : fallback;
}

static void append_line(const char* variable, const char* line) {
  const char* const path = getenv(variable);
  if (path == NULL) return;
  const long file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);
  syscall(SYS_write, file, line, strlen(line));
  syscall(SYS_close, file);
}

static void log_call(const char* name) {
  char line[64];
  snprintf(line, sizeof(line), "%s\n", name);
  append_line("FAULT_LOG", line);
}

/* Where the descriptor leads, or an empty text. */
static const char* path_of(int file, char path[PATH_MAX]) {
  char link[64];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  const long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = '\0';
  return path;
}

static void trace(const char* name, const char* path, const char* second) {
  if (getenv("FAULT_TRACE") == NULL) return;
  char line[2 * PATH_MAX + 64];
  snprintf(line, sizeof(line), "%s\t%s\t%s\n", name, path, second);
  append_line("FAULT_TRACE", line);
}

static void trace_file(const char* name, int file) {
  char path[PATH_MAX];
  trace(name, path_of(file, path), "");
}

static void die(void) {
  syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  for (;;) syscall(SYS_pause);
}

static int strike(const char* name, int is_write);

/* The errno with which a call that reads is to fail, or 0. */
static int strike_read(const char* name, const char* path) {
  const char* const part = getenv("FAULT_READS");
  if (part == NULL || strstr(path, part) == NULL) return 0;
  const int fault = strike(name, 0);
  return fault > 0 ? fault : 0;
}

static int strike_write(const char* name, int is_write) { return getenv("FAULT_READS") != NULL ? 0 : strike(name, is_write); }

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
  const int fault = strike_write(name, 0);  \
  if (fault > 0) {                    \
    errno = fault;                    \
    return -1;                        \
  }

static int open_file(int folder, const char* path, int flags, mode_t mode) {
  if ((flags & (O_CREAT | O_TRUNC)) != 0) {
    trace("open", path, "");
    STRUCK("open")
  } else {
    const int fault = strike_read("open", path);
    if (fault > 0) {
      errno = fault;
      return -1;
    }
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
    trace_file(name, file);
    const int fault = strike_write(name, 1);
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
  trace_file("fsync", file);
  STRUCK("fsync")
  return (int)syscall(SYS_fsync, file);
}
int rename(const char* from, const char* to) {
  trace("rename", from, to);
  STRUCK("rename")
  return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  trace("rename", from, to);
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
  trace("mkdir", path, "");
  STRUCK("mkdir")
  return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

#define STRUCK_READ(name, path, failure)        \
  const int fault = strike_read(name, path);    \
  if (fault > 0) {                              \
    errno = fault;                              \
    return failure;                             \
  }

ssize_t read(int file, void* bytes, size_t count) {
  char path[PATH_MAX];
  STRUCK_READ("read", path_of(file, path), -1)
  return syscall(SYS_read, file, bytes, count);
}
static ssize_t read_at(int file, void* bytes, size_t count, off_t offset) {
  char path[PATH_MAX];
  STRUCK_READ("pread", path_of(file, path), -1)
  return syscall(SYS_pread64, file, bytes, count, offset);
}
ssize_t pread(int file, void* bytes, size_t count, off_t offset) { return read_at(file, bytes, count, offset); }
ssize_t pread64(int file, void* bytes, size_t count, off_t offset) { return read_at(file, bytes, count, offset); }

static void* map(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  if (file >= 0) {
    char path[PATH_MAX];
    STRUCK_READ("mmap", path_of(file, path), MAP_FAILED)
  }
  return (void*)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}
void* mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  return map(address, length, protection, flags, file, offset);
}
void* mmap64(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  return map(address, length, protection, flags, file, offset);
}

static int look(int folder, const char* path, struct stat* info, int flags) {
  STRUCK_READ("stat", path, -1)
  return (int)syscall(SYS_newfstatat, folder, path, info, flags);
}
int stat(const char* path, struct stat* info) { return look(AT_FDCWD, path, info, 0); }
int lstat(const char* path, struct stat* info) { return look(AT_FDCWD, path, info, AT_SYMLINK_NOFOLLOW); }
int stat64(const char* path, struct stat64* info) { return look(AT_FDCWD, path, (struct stat*)info, 0); }
int lstat64(const char* path, struct stat64* info) { return look(AT_FDCWD, path, (struct stat*)info, AT_SYMLINK_NOFOLLOW); }

DIR* opendir(const char* path) {
  STRUCK_READ("opendir", path, NULL)
  const int folder = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return folder < 0 ? NULL : fdopendir(folder);
}
