//! Every reason why a call, or a function, stays on ctypes.

use hotcall_tracer::Refusal;

/// Defines one constant per row.
macro_rules! refusals {
    ($($name:ident $text:literal $advice:literal;)*) => {
        $(#[doc = $advice] pub(crate) const $name: Refusal = Refusal::new($text, $advice);)*
    };
}

refusals! {
    AUDITED "audit-hook" "There is an audit hook, and this version of ctypes tells it of each call.";
    NOT_INSTALLED "not-installed" "ctypes makes all calls until hotcall.install() is called.";
    COUNT "argument-count" "The call gives fewer arguments than argtypes declares, or more than 1024.";
    KEYWORDS "keyword-arguments" "ctypes makes calls with keyword arguments.";
    PARAMFLAGS "paramflags" "The function was made by a prototype with parameter flags of a kind that ctypes handles, or takes argtypes from its class; set argtypes on the function, to a tuple.";
    CHECK_RETVAL "check-retval" "The result type has a _check_retval_ method, and what ctypes adds to tracebacks is not known.";
    RESTYPE "result-type" "The result type is an array.";
    BY_VALUE "by-value" "A structure is passed or returned by value that libffi may not see as C does: a small union, a long double, an alignment to more than 16 bytes, or no fields.";
    FROM_PARAM "from-param" "An argument type has a from_param of its own, and the function takes argtypes from its class; set argtypes on the function.";
    PARAMETER "as-parameter" "An argument has an _as_parameter_, and more than 64 arguments or a function that takes argtypes from its class.";
    FINALISER "finaliser" "An argument before one that Python code runs for is passed by value, and its class has a __del__.";
    SURPRISING "own-class-attribute" "An argument's class has a say in what isinstance finds out.";
    TARGET "set-type" "set_type was called for a pointer class since it was looked at.";
    NEW_CLASS "unstable-class" "An argument's class changes, or CPython gives it no version.";
    LONG_DOUBLE "long-double" "A long double does not fit in a word.";
    FLAGS "calling-convention" "The function has flags other than cdecl, PyDLL, use_errno and use_last_error.";
    VALUE "argument-value" "An argument is of a type that ctypes converts itself.";
    NARROW "narrow-argument" "Behind the arguments that are declared there are others, and one is narrower than int, or a float: ctypes refuses the call.";
    LARGE_INT "large-int" "An int is given that does not fit: over 53 bits for a floating-point argument, over 60 undeclared.";
    CHAR "one-char" "A char argument is not one byte, or an int from 0 to 255.";
    ERRNO "errno-space" "The thread has no private errno yet; ctypes makes it at its first call.";
    THREAD "new-thread" "The thread has no record to lend the GIL by, or is in a call that has lent it.";
    CLASS "class-changed" "The function's __class__ was assigned since the last call.";
    CALL "call-overridden" "The function's class has a __call__ of its own.";
    CALLBACK_RESULT "callback-result" "The result of a callback is of a type that ctypes makes itself.";
    CALLBACK_ARGUMENT "callback-argument" "An argument of a callback is an array, or of a class whose metaclass is the program's own.";
    TOO_MANY "too-many-arguments" "The function has more arguments than CPython lets ctypes pass.";
}
