/* The functions that tests and benches call: pure ones, ones that look at how they were called, and ones whose results have
 * garbage where the calling convention leaves the bits undefined. They keep no state but errno and what `TEN` records. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int32_t fix_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

double fix_half(double a) { return a / 2; }

double fix_add_d(double a, double b) { return a + b; }

int32_t fix_six(int32_t a, int32_t b, int32_t c, int32_t d, int32_t e, int32_t f)
{
    return (int32_t)((uint32_t)a + 2u * (uint32_t)b + 3u * (uint32_t)c + 4u * (uint32_t)d + 5u * (uint32_t)e + 6u * (uint32_t)f);
}

void fix_nothing(void) {}

size_t fix_length(const char *text) { return strlen(text); }

static uint64_t bits32(float value)
{
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    return word;
}

static uint64_t bits64(double value)
{
    uint64_t word;
    memcpy(&word, &value, sizeof word);
    return word;
}

/* Ten arguments of ten types, of which some travel on the stack. The function records what it received, one word for each
 * argument, widened as C does; `<name>_seen` gives their address. */
#define TEN(convention, name)                                                                                                  \
    static uint64_t name##_words[10];                                                                                          \
    uint64_t *name##_seen(void) { return name##_words; }                                                                       \
    convention double name(int8_t a, float b, uint16_t c, double d, bool e, int64_t f, void *g, double h, uint8_t i, int32_t j) \
    {                                                                                                                          \
        const uint64_t words[10] = {(uint64_t)a, bits32(b),           c,         bits64(d), e,                                \
                                    (uint64_t)f, (uint64_t)(uintptr_t)g, bits64(h), i,         (uint64_t)j};                 \
        memcpy(name##_words, words, sizeof words);                                                                             \
        return d + h;                                                                                                          \
    }

TEN(, fix_ten)

/* Results whose register has garbage above their own bits. Rust declares them with a narrow result. */
#define DIRTY 0xdeadbeefcafef00dULL
uint64_t fix_dirty8(uint64_t a) { return (DIRTY << 8) | (a & 0xff); }
uint64_t fix_dirty16(uint64_t a) { return (DIRTY << 16) | (a & 0xffff); }
uint64_t fix_dirty32(uint64_t a) { return (DIRTY << 32) | (a & 0xffffffff); }

int32_t fix_swap_errno(int32_t value)
{
    int32_t found = errno;
    errno = value;
    return found;
}

/* How far the stack pointer was from where the convention wants it at the call: 0, or the call was wrong. The vector is for the
 * hardware to find out too. */
__attribute__((noinline)) uint64_t fix_misalignment(void)
{
    volatile __attribute__((aligned(16))) char vector[16] = {0};
    return (((uintptr_t)__builtin_frame_address(0)) % 16) | ((uintptr_t)vector % 16);
}

int32_t fix_call_back(int32_t (*callback)(int32_t), int32_t value) { return callback(value); }

#ifdef __x86_64__
#define MS __attribute__((ms_abi))
MS int32_t fix_ms_add(int32_t a, int32_t b) { return fix_add(a, b); }
TEN(MS, fix_ms_ten)
MS uint64_t fix_ms_dirty8(uint64_t a) { return fix_dirty8(a); }
/* The same question, for a convention in which xmm6 to xmm15, rdi and rsi are the caller's. */
MS uint64_t fix_ms_misalignment(void) { return fix_misalignment(); }
#endif
