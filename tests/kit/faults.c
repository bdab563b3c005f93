/* Preloaded into a process under test: the n-th write, sync or read of one of SQLite's files fails, once.

   A file is told by the end of its name. Nothing fails until arm() is called. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE, SYNC, READ };

static char file[128];
static int operation = -1, fault;
static atomic_long left;
static atomic_int hits;

/* `error` 0: a write that stores half of its bytes and says so, then the disk is full. */
void arm(const char *suffix, int op, int error, long n) {
  snprintf(file, sizeof file, "%s", suffix);
  operation = op;
  fault = error;
  atomic_store(&left, n);
}

int fired(void) { return atomic_load(&hits); }

static int due(int fd, int op) {
  if (op != operation || atomic_load(&left) <= 0) return 0;
  char link[64], name[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name - 1);
  size_t end = strlen(file);
  if (length < (ssize_t)end || memcmp(name + length - end, file, end)) return 0;
  if (atomic_fetch_sub(&left, 1) != 1) return 0;
  atomic_fetch_add(&hits, 1);
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(op) if (due(fd, op)) { errno = fault ? fault : ENOSPC; return -1; }
#define FAIL_WRITE(half) if (due(fd, WRITE)) { if (!fault) return half; errno = fault; return -1; }

ssize_t write(int fd, const void *data, size_t n) {
  FAIL_WRITE(REAL(write)(fd, data, n / 2))
  return REAL(write)(fd, data, n);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
  FAIL_WRITE(REAL(pwrite)(fd, data, n / 2, at))
  return REAL(pwrite)(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
  FAIL_WRITE(REAL(pwrite64)(fd, data, n / 2, at))
  return REAL(pwrite64)(fd, data, n, at);
}
ssize_t read(int fd, void *data, size_t n) {
  FAIL(READ)
  return REAL(read)(fd, data, n);
}
ssize_t pread(int fd, void *data, size_t n, off_t at) {
  FAIL(READ)
  return REAL(pread)(fd, data, n, at);
}
ssize_t pread64(int fd, void *data, size_t n, off64_t at) {
  FAIL(READ)
  return REAL(pread64)(fd, data, n, at);
}
int fsync(int fd) {
  FAIL(SYNC)
  return REAL(fsync)(fd);
}
int fdatasync(int fd) {
  FAIL(SYNC)
  return REAL(fdatasync)(fd);
}
int ftruncate64(int fd, off64_t n) {
  FAIL(WRITE)
  return REAL(ftruncate64)(fd, n);
}
