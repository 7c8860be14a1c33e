/* Runs a program that cannot make memory executable: `deny_exec auto|mdwe|seccomp PROGRAM ARGS...`, or `deny_exec probe`.
 *
 * `mdwe` is the kernel's own switch (memory-deny-write-execute); `seccomp` filters the system calls, for older kernels, and
 * also denies what the switch allows: anonymous memory that is executable from the start. Shared libraries still load, since
 * private mappings of files stay allowed. `probe` exits with 0 if memory is denied to it, and with 1 if not.
 *
 * Exit status 3 means that this way of denying does not exist here. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

static int deny_by_mdwe(void)
{
    return prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0L, 0L, 0L);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define ANY_BIT(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, value, yes, no)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)

static int deny_by_seccomp(void)
{
    /* The numbers of a jump say how many instructions it passes over. The last two return; all else falls towards them. */
    struct sock_filter code[] = {
        /*  0 */ LOAD(arch),
        /*  1 */ EQUAL(AUDIT_ARCH_X86_64, 0, 9),
        /*  2 */ LOAD(nr),
        /*  3 */ EQUAL(SYS_mprotect, 4, 0),
        /*  4 */ EQUAL(SYS_pkey_mprotect, 3, 0),
        /*  5 */ EQUAL(SYS_mmap, 0, 5),
        /*  6 */ LOAD(args[3]),
        /*  7 */ ANY_BIT(MAP_ANONYMOUS | MAP_SHARED, 0, 3),
        /*  8 */ LOAD(args[2]),
        /*  9 */ ANY_BIT(PROT_EXEC, 0, 1),
        /* 10 */ RETURN(SECCOMP_RET_ERRNO | EACCES),
        /* 11 */ RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Whether memory that was written can be made executable. */
static int can_make_code(void)
{
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 0;
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0) return 1;
    return mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "probe")) return can_make_code();
    if (argc < 3) {
        fprintf(stderr, "usage: deny_exec auto|mdwe|seccomp PROGRAM ARGS... | deny_exec probe\n");
        return 2;
    }
    int automatic = !strcmp(argv[1], "auto"), status = -1;
    if (automatic || !strcmp(argv[1], "mdwe")) status = deny_by_mdwe();
    if (status && (automatic || !strcmp(argv[1], "seccomp"))) status = deny_by_seccomp();
    if (status) {
        perror("deny_exec: cannot deny executable memory");
        return 3;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
