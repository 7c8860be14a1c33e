/* The foreign functions that every contender of the comparison calls. */
#include "functions.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int answer(void) { return 42; }

int add(int a, int b) { return a + b; }

int negate(int a) { return -a; }

long large(long a) { return a + 1; }

double half(double a) { return a / 2; }

double scale(double a, double b) { return a * b; }

size_t length(const char *text) { return strlen(text); }

const char *name(int index)
{
    static const char *const names[] = {"zero", "one", "two", "three"};
    return names[index & 3];
}

bool is_even(int a) { return a % 2 == 0; }

int is_null(void *address) { return address == NULL; }

void nothing(int a) { (void)a; }

int six(int a, int b, int c, int d, int e, int f) { return a + b + c + d + e + f; }

double ten(int a, double b, int c, double d, int e, double f, int g, double h, int i, double j)
{
    return a + b + c + d + e + f + g + h + i + j;
}

pair swap_pair(pair p) { return (pair){p.y, p.x}; }

int kind_of_cursor(cursor c) { return c.kind; }

double norm(point p) { return p.x * p.x + p.y * p.y; }

void shift(point *p, double by) { p->x += by; }

long total(const char *bytes, size_t size)
{
    long sum = 0;
    for (size_t index = 0; index < size; index++)
        sum += bytes[index];
    return sum;
}

double sum(const double *items, size_t size)
{
    double sum = 0;
    for (size_t index = 0; index < size; index++)
        sum += items[index];
    return sum;
}

int sum_ints(int count, ...)
{
    int sum = 0;
    va_list rest;
    va_start(rest, count);
    while (count-- > 0)
        sum += va_arg(rest, int);
    va_end(rest);
    return sum;
}

double split(double a, int *whole)
{
    *whole = (int)(a / 2);
    return a / 2;
}

long count(counter *call, int times)
{
    long sum = 0;
    for (int number = 0; number < times; number++)
        sum += call(number);
    return sum;
}

static _Thread_local order *comparing;

static int compare_at(const void *a, const void *b) { return comparing(*(const long *)a, *(const long *)b); }

void sort(long *numbers, size_t size, order *compare)
{
    comparing = compare;
    qsort(numbers, size, sizeof *numbers, compare_at);
}

int fail(int code)
{
    errno = code;
    return -1;
}
