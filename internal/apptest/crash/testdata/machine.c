/* A machine whose clock and disk a test has in its hands. PostgreSQL is started
 * with this library preloaded; the two words of the file that MACHINE names say
 * how wrong the clock is, in seconds, and whether the disk is full. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct machine { volatile int64_t offset, full; };

static struct machine right;
static struct machine *machine = &right;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_posix_fallocate)(int, off_t, off_t);

static void begin(void) __attribute__((constructor));
static void begin(void)
{
	const char *name = getenv("MACHINE");
	int fd;

	if (real_clock_gettime)
		return;
	real_write = dlsym(RTLD_NEXT, "write");
	real_pwrite = dlsym(RTLD_NEXT, "pwrite");
	real_pwritev = dlsym(RTLD_NEXT, "pwritev");
	real_posix_fallocate = dlsym(RTLD_NEXT, "posix_fallocate");
	real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (name && (fd = open(name, O_RDONLY)) >= 0) {
		void *p = mmap(NULL, sizeof *machine, PROT_READ, MAP_SHARED, fd, 0);
		if (p != MAP_FAILED)
			machine = p;
		close(fd);
	}
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	int result;

	begin();
	result = real_clock_gettime(id, now);
	if (result == 0 && id == CLOCK_REALTIME)
		now->tv_sec += machine->offset;
	return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	now->tv_sec = t.tv_sec;
	now->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (now)
		*now = t.tv_sec;
	return t.tv_sec;
}

/* lacks_room tells whether a file of a full disk would have to grow up to end.
 * The server's log, its standard output, is on another disk. */
static int lacks_room(int fd, off_t end)
{
	struct stat file;

	begin();
	return machine->full && fd > 2 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && end > file.st_size;
}

ssize_t write(int fd, const void *data, size_t size)
{
	off_t at;
	int append;

	begin();
	if (machine->full && size > 0) {
		append = fcntl(fd, F_GETFL) & O_APPEND;
		at = append ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
		if (at >= 0 && lacks_room(fd, at + (off_t)size)) {
			errno = ENOSPC;
			return -1;
		}
	}
	return real_write(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
	if (lacks_room(fd, at + (off_t)size)) {
		errno = ENOSPC;
		return -1;
	}
	return real_pwrite(fd, data, size, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
	off_t end = at;

	for (int i = 0; i < count; i++)
		end += (off_t)parts[i].iov_len;
	if (lacks_room(fd, end)) {
		errno = ENOSPC;
		return -1;
	}
	return real_pwritev(fd, parts, count, at);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
	if (lacks_room(fd, at + size))
		return ENOSPC;
	return real_posix_fallocate(fd, at, size);
}
