/* The library that tests/python calls: functions that record what they received, and pure ones for tests with threads.
 *
 * `record_i` and `record_f` take every register and stack slot that System V passes arguments in, so one of them serves as the
 * target of any signature: the test knows which of the words its signature defines. Compiled by conftest.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

enum { INTS = 6, FLOATS = 8, SLOTS = 40 };

/* What the last recording call received. Read it through in_dll: that makes no foreign call. */
struct seen {
    uint64_t calls;
    uint64_t ints[INTS];
    uint64_t floats[FLOATS];
    uint64_t slots[SLOTS];
    unsigned char bytes[64];
    int64_t size;
};
struct seen seen;

/* What the next recording calls return: raw bits of rax, or of xmm0. */
uint64_t answer_i;
double answer_f;

static void keep(const uint64_t *ints, const double *floats, const uint64_t *slots)
{
    seen.calls++;
    memcpy(seen.ints, ints, sizeof seen.ints);
    memcpy(seen.floats, floats, sizeof seen.floats);
    memcpy(seen.slots, slots, sizeof seen.slots);
}

#define W(n) uint64_t s##n##0, uint64_t s##n##1, uint64_t s##n##2, uint64_t s##n##3, uint64_t s##n##4, \
             uint64_t s##n##5, uint64_t s##n##6, uint64_t s##n##7, uint64_t s##n##8, uint64_t s##n##9
#define V(n) s##n##0, s##n##1, s##n##2, s##n##3, s##n##4, s##n##5, s##n##6, s##n##7, s##n##8, s##n##9
#define ALL uint64_t i0, uint64_t i1, uint64_t i2, uint64_t i3, uint64_t i4, uint64_t i5, \
            double d0, double d1, double d2, double d3, double d4, double d5, double d6, double d7, \
            W(0), W(1), W(2), W(3)
#define KEEP() do { \
        uint64_t ints[] = {i0, i1, i2, i3, i4, i5}; \
        double floats[] = {d0, d1, d2, d3, d4, d5, d6, d7}; \
        uint64_t slots[] = {V(0), V(1), V(2), V(3)}; \
        keep(ints, floats, slots); \
    } while (0)

uint64_t record_i(ALL) { KEEP(); return answer_i; }
double record_f(ALL) { KEEP(); return answer_f; }
long double record_g(long double x) { seen.calls++; memset(seen.bytes, 0, sizeof seen.bytes); memcpy(seen.bytes, &x, 10); return x; }

/* Half of a number, and, unless there is no place for it, the whole part of that. */
double split(double x, int *whole)
{
    if (whole)
        *whole = (int)(x / 2);
    return x / 2;
}

/* Records its argument, and the memory behind it as far as that can be read: the argument may be no pointer at all. */
uint64_t record_p(uint64_t word)
{
    int before = errno;
    struct iovec here = {seen.bytes, sizeof seen.bytes}, there = {(void *)word, sizeof seen.bytes};
    seen.calls++;
    seen.ints[0] = word;
    memset(seen.bytes, 0, sizeof seen.bytes);
    seen.size = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    errno = before;
    return answer_i;
}

/* Structures by value: each is recorded as its bytes, and an int before and after it as words. */
struct s8 { int x, y; };
struct s16 { int64_t a; double b; };
struct f8 { float x, y; };
struct f16 { double x, y; };
struct s24 { int64_t a, b, c; };
union u8 { int i; float f; };
#define STRUCTURE(name, type) \
    type name(int before, type value, int after) { \
        seen.calls++; seen.ints[0] = (unsigned)before; seen.ints[1] = (unsigned)after; \
        memset(seen.bytes, 0, sizeof seen.bytes); memcpy(seen.bytes, &value, sizeof value); \
        seen.size = sizeof value; return value; }
STRUCTURE(take_s8, struct s8)
STRUCTURE(take_s16, struct s16)
STRUCTURE(take_f8, struct f8)
STRUCTURE(take_f16, struct f16)
STRUCTURE(take_s24, struct s24)
STRUCTURE(take_u8, union u8)

/* errno, in and out. */
int get_errno(void) { return errno; }
int set_errno(int value) { errno = value; return value; }
int swap_errno(int value) { int before = errno; errno = value; return before; }
int errno_and(int a, double b, const char *c) { (void)a; (void)b; (void)c; return errno++; }

/* Variadic, so that the count of vector registers in al matters. */
double sum_doubles(int count, ...)
{
    va_list rest;
    double sum = 0;
    va_start(rest, count);
    for (int i = 0; i < count; i++) sum += va_arg(rest, double);
    va_end(rest);
    return sum;
}

/* Pure functions, for calls from many threads. */
int add_one(int x) { return (int)((unsigned)x + 1); }
int add_two(int x) { return (int)((unsigned)x + 2); }
int64_t mix_i(int32_t a, int64_t b, uint8_t c) { return (int64_t)((uint64_t)(int64_t)a * 3 + (uint64_t)b * 5 + c); }
double mix_d(double a, float b, int c) { return a * 2 + b * 4 + c; }
size_t length(const char *s) { return s ? strlen(s) : 99; }
size_t wide_length(const wchar_t *s) { return s ? wcslen(s) : 99; }
int64_t read_long(const int64_t *p) { return p ? *p : -1; }
void *same(void *p) { return p; }
void nothing(void) { }
int64_t mix_20i(int a, int b, int c, int d, int e, int f, int g, int h, int i, int j,
                int k, int l, int m, int n, int o, int p, int q, int r, int s, int t)
{
    int all[] = {a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t};
    uint64_t sum = 0;
    for (int x = 0; x < 20; x++) sum = sum * 31 + (uint64_t)(int64_t)all[x];
    return (int64_t)sum;
}

/* Calls back, from this thread or from a new one. */
int call_back(int (*f)(int), int x) { return f ? f(x) : -1; }
int64_t call_back_many(int (*f)(int), int count)
{
    int64_t sum = 0;
    for (int i = 0; i < count; i++) sum += f(i);
    return sum;
}
struct job { int (*f)(int); int x, result; };
static void *work(void *p) { struct job *job = p; job->result = job->f(job->x); return 0; }
int call_back_in_thread(int (*f)(int), int x)
{
    struct job job = {f, x, -1};
    pthread_t thread;
    if (pthread_create(&thread, 0, work, &job)) return -2;
    pthread_join(thread, 0);
    return job.result;
}

/* Sleeps in C: what other threads do meanwhile shows whether they can run. */
int sleep_ms(int ms) { usleep((unsigned)ms * 1000); return ms; }

/* Structures by value: of each class that System V has, and back. */
typedef struct { int x, y; } pair;
typedef struct { double x, y; } doubles;
typedef struct { float x, y, z; } floats;
typedef struct { long x; double y; } mixed;
typedef struct { int kind, flags; void *data[3]; } cursor;
typedef struct { unsigned char x[3]; } three;
typedef struct { unsigned char x[5]; } five;
pair swap_pair(pair p) { return (pair){p.y, p.x}; }
doubles swap_doubles(doubles p) { return (doubles){p.y, p.x}; }
floats swap_floats(floats p) { return (floats){p.z, p.y, p.x}; }
mixed swap_mixed(mixed p) { return (mixed){(long)p.y, (double)p.x}; }
cursor next_cursor(cursor c) { c.kind++; c.data[0] = c.data[2]; return c; }
int kind_of_cursor(cursor c, int more) { return c.kind + more + (int)(long)c.data[1]; }
three swap_three(three p) { return (three){{p.x[2], p.x[1], p.x[0]}}; }
five swap_five(five p) { return (five){{p.x[4], p.x[3], p.x[2], p.x[1], p.x[0]}}; }
typedef struct { _Alignas(16) long x; long y; } aligned;

long behind_seven(long a, long b, long c, long d, long e, long f, long g, aligned s, long h)
{
    return a + b + c + d + e + f + g + s.x * 100 + s.y * 1000 + h;
}

long call_behind_seven(long (*back)(long, long, long, long, long, long, long, aligned), long x)
{
    aligned s = {x, 5};
    return back(1, 2, 3, 4, 5, 6, 7, s);
}

long many_structs(long a, long b, long c, long d, long e, mixed m, pair p, cursor q, doubles r, double x)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * m.x + 7 * (long)m.y + 8 * p.x + 9 * p.y + 10 * q.kind + 11 * (long)r.y + 12 * (long)x;
}
mixed answer_mixed(void) { return (mixed){0x1122334455667788, 1.5}; }
/*
 * answer_all(7, size) gives other words in each register in which a structure may be returned. Where the caller wants it in
 * memory its address comes first, and that many bytes there become 0x5a.
 */
__asm__(".globl answer_all\nanswer_all:\ncmp $7, %rdi\njne 1f\n"
        "movabs $0x1122334455667788, %rax\nmovabs $0x99aabbccddeeff01, %rdx\n"
        "movabs $0x2132435465768798, %rcx\nmovq %rcx, %xmm0\nmovabs $0x3142536475869718, %rcx\nmovq %rcx, %xmm1\nret\n"
        "1: mov %rdi, %rsi\nmov %rdx, %rcx\nmov $0x5a, %eax\nrep stosb\nmov %rsi, %rax\nret\n"
        ".type answer_all, @function\n");
/* Calls back while a structure that was passed by value is still to be read. */
long read_later(cursor c, void (*between)(void)) { between(); return c.kind + (long)c.data[1]; }

/* Calls that last: by sleeping, by working, or until others have done something. */
int sleep_us(int us) { if (us) usleep((unsigned)us); return us; }
int work_us(int us)
{
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += us % 1000000 * 1000L;
    end.tv_sec += us / 1000000 + end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
    return us;
}
int work_and_fail(int us, int error) { work_us(us); errno = error; return us; }
int wait_for(volatile int *flag) { while (!*flag) usleep(50); return *flag; }
int sleep_and_call(int us, int (*f)(int), int x) { if (us) usleep((unsigned)us); return f(x); }
int ask(int (*f)(void)) { return f(); }
int never_return(void) { for (;;) pause(); }
void end_thread(void) { pthread_exit(0); }
/* Calls back for good on a thread of its own, which nobody waits for; notes what it got last. */
typedef struct { int (*f)(int); int us, *last; } calls;
static void *call_for_good(void *of)
{
    calls c = *(calls *)of;
    for (int i = 0;; i++) { usleep((unsigned)c.us); *c.last = c.f(i); }
    return 0;
}
int start_calling(int (*f)(int), int us, int *last)
{
    calls *c = malloc(sizeof *c);
    *c = (calls){f, us, last};
    pthread_t thread;
    return pthread_create(&thread, 0, call_for_good, c) || pthread_detach(thread);
}
int fork_and_exit(int code) { pid_t child = fork(); if (!child) _exit(code); int status; waitpid(child, &status, 0); return WEXITSTATUS(status); }
