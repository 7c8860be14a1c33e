/* The foreign functions that every contender of the comparison calls. They do next to nothing, so that what is timed is
 * the way to them and back. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include <stdbool.h>
#include <stddef.h>

int answer(void);
int add(int a, int b);
int negate(int a);
long large(long a);
double half(double a);
double scale(double a, double b);
size_t length(const char *text);
const char *name(int index);
bool is_even(int a);
int is_null(void *address);
void nothing(int a);
int six(int a, int b, int c, int d, int e, int f);
double ten(int a, double b, int c, double d, int e, double f, int g, double h, int i, double j);

typedef struct { int x, y; } pair;
typedef struct { int kind, flags; void *data[3]; } cursor;

pair swap_pair(pair p);
int kind_of_cursor(cursor c);

typedef struct { double x, y; } point;

double norm(point p);
void shift(point *p, double by);

/* Adds up so many bytes, doubles, or the ints behind the first one. */
long total(const char *bytes, size_t size);
double sum(const double *items, size_t size);
int sum_ints(int count, ...);

/* The half, and the whole part of it at an address. */
double split(double a, int *whole);

/* Calls back so many times, with the numbers from 0 on, and adds up what it gets. */
typedef int counter(int);
long count(counter *call, int times);

/* Sorts by a function that is given the numbers themselves. */
typedef int order(long, long);
void sort(long *numbers, size_t size, order *compare);

/* Sets errno to its argument. */
int fail(int code);

#endif
