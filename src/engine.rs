//! The engine: the compiler and the limits that functions share. Most programs
//! use the one of the process and never name it.

use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, OnceLock};

use hotcall_asm::{Jit, Usage};
use hotcall_core::Error;
use hotcall_tracer::{Limits, Refusal};

use crate::function::Function;
use crate::library::IntoSignature;

/// What an engine may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many calls of a function are interpreted before it is compiled: the
    /// last of them is the one that is recorded. 0 never compiles.
    pub hot: u32,
    /// Bytes of code memory at most, rounded up to whole pages. They are
    /// addresses only, until there is code in them; a limit of the process on
    /// its addresses (`RLIMIT_AS`) counts them all.
    pub capacity: usize,
    /// Behave as if the system refused executable memory.
    pub deny: bool,
}

impl Default for Options {
    /// 100 calls, 4 MiB, and nothing denied.
    fn default() -> Options {
        let hotcall_asm::Options { capacity, deny } = hotcall_asm::Options::default();
        Options { hot: Limits::default().hot, capacity, deny }
    }
}

/// Compiles the functions that were made with it; cloning it gives another
/// handle to the same one.
///
/// A function keeps its engine. Functions of equal signatures share their code,
/// within an engine. Code is never freed, also when the last handle is dropped: some
/// thread may be in it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    jit: Jit,
    limits: Limits,
}

impl Engine {
    /// An engine of its own. It asks for memory when the first function is hot.
    pub fn new(options: Options) -> Engine {
        let Options { hot, capacity, deny } = options;
        let jit = Jit::new(hotcall_asm::Options { capacity, deny });
        // A signature allows one shape of values, and there is no slower path
        // to leave a refused call to.
        let limits = Limits { hot, shapes: 1, refusals: u32::MAX };
        Engine { inner: Arc::new(Inner { jit, limits }) }
    }

    /// The engine of the process, with the default options.
    pub fn global() -> &'static Engine {
        static GLOBAL: OnceLock<Engine> = OnceLock::new();
        GLOBAL.get_or_init(|| Engine::new(Options::default()))
    }

    /// The function at `target`, called `name` in errors and explanations.
    ///
    /// `target` must be a function's address when [`Function::call`] uses it,
    /// not before. A function in a shared library is found by
    /// [`Library::function`](crate::Library::function), which also keeps the
    /// library open.
    ///
    /// # Errors
    /// [`Error::Declaration`] with [`Error::Parse`] if a text is no signature, with
    /// [`Error::LongDouble`], [`Error::AbiUnavailable`], [`Error::OtherProcessor`] or
    /// [`Error::Ffi`] if no function of this signature can be called here, and with
    /// [`Error::Unplaced`] if it has more than 100 million arguments.
    pub fn function(
        &self,
        name: &str,
        target: *const c_void,
        signature: impl IntoSignature,
    ) -> Result<Function, Error> {
        let signature = signature.into_signature().map_err(|error| error.of(name))?;
        Function::new(self, None, name, target, &signature)
    }

    /// Whether this engine can compile here. The first question asks the
    /// system for memory.
    ///
    /// # Errors
    /// Why not.
    pub fn status(&self) -> Result<(), Refusal> {
        self.inner.jit.status()
    }

    /// How much code memory is in use now.
    pub fn usage(&self) -> Usage {
        self.inner.jit.usage()
    }

    /// The compiler.
    pub(crate) fn jit(&self) -> &Jit {
        &self.inner.jit
    }

    /// What bounds the work of each of its call sites.
    pub(crate) fn limits(&self) -> Limits {
        self.inner.limits
    }
}

impl Default for Engine {
    /// A handle to [`Engine::global`].
    fn default() -> Engine {
        Engine::global().clone()
    }
}

/// Prints how much code there is, and not the code.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = self.usage();
        f.debug_struct("Engine").field("hot", &self.limits().hot).field("usage", &usage).finish()
    }
}
