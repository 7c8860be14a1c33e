//! The reasons why this crate compiles no stub, by name. None is an error: the
//! generic path makes the call instead.

use hotcall_tracer::Refusal;

/// The system does not let this process make memory executable.
pub const NO_EXECUTABLE_MEMORY: Refusal = Refusal::new(
    "no-executable-memory",
    "the system refuses executable memory to this process (SELinux execmem, MemoryDenyWriteExecute \
     or a sandbox); allow it to have compiled calls",
);

/// A variadic function of Win64 takes floats in two kinds of register at once.
pub const WIN64_VARIADIC: Refusal = Refusal::new(
    "win64-variadic",
    "a variadic function of this convention that takes floating-point arguments is called generically",
);

/// The bound on code memory is reached.
pub const CODE_MEMORY_FULL: Refusal = Refusal::new(
    "code-memory-full",
    "the code memory is used up; raise its capacity, or look for a program that declares the same \
     functions over and over",
);

/// The system failed while code was being put into place.
pub const CODE_MEMORY_LOST: Refusal = Refusal::new(
    "code-memory-lost",
    "the system failed to map new code; stubs made before stay in use, new ones are not made",
);

/// The process was forked while another thread was compiling.
pub const FORKED_WHILE_COMPILING: Refusal = Refusal::new(
    "forked-while-compiling",
    "the process was forked while another thread compiled, and the child cannot go on compiling; \
     fork before starting threads",
);

/// The processor is not an x86-64.
pub const UNSUPPORTED_PROCESSOR: Refusal =
    Refusal::new("unsupported-processor", "machine code is made for x86-64 alone");

/// An argument or the result is a long double.
pub const LONG_DOUBLE: Refusal =
    Refusal::new("long-double", "a long double does not fit the registers that stubs use");

/// The stub would be entered with more words than there are registers for them.
pub const TOO_MANY_PARAMETERS: Refusal = Refusal::new(
    "too-many-parameters",
    "stubs are entered with their words in registers, and the convention has too few",
);

/// The frame would be larger than a stub's may be.
pub const FRAME_TOO_LARGE: Refusal = Refusal::new(
    "frame-too-large",
    "the call has more arguments on the stack, or values alive at once, than a stub's frame holds",
);

/// The trace of a callback has a guard.
pub const CALLBACK_EXITS: Refusal = Refusal::new(
    "callback-exits",
    "a callback has nothing to fall back to, so its trace may have no guard; what is unusual is \
     left to a helper",
);

/// The trace of a loop may end before its last instruction.
pub const LOOP_EXITS: Refusal = Refusal::new(
    "loop-exits",
    "a turn of a loop has nothing to fall back to and nobody to return to, so its trace may have no \
     guard and no early return",
);

/// A callback was declared to take any number of arguments.
pub const VARIADIC_CALLBACK: Refusal = Refusal::new(
    "variadic-callback",
    "a callback cannot know which variable arguments it was given; declare those that it takes",
);

/// The trace did not pass the verifier.
pub const INVALID_TRACE: Refusal =
    Refusal::new("invalid-trace", "the trace is not well formed; this is a bug in what made it");
