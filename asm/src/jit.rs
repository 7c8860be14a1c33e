//! The compiler with its code memory and its cache. A stub depends on nothing
//! but its trace and its fallback, so equal pairs share one.

use std::collections::HashMap;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use hotcall_core::Abi;
use hotcall_tracer::{Backend, BuildWordHasher, Refusal, Trace, verify};

use crate::lower::assemble;
use crate::memory::{Arena, KeepErrno};
use crate::refusals::{
    FORKED_WHILE_COMPILING, INVALID_TRACE, NO_EXECUTABLE_MEMORY, UNSUPPORTED_PROCESSOR,
};
use crate::regs::{Convention, convention};
use crate::stub::Stub;
use crate::tables::Tables;

/// What a [`Jit`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of code memory at most, rounded up to whole pages. They are
    /// addresses only, until there is code in them.
    pub capacity: usize,
    /// Behave as if the system refused executable memory.
    pub deny: bool,
}

impl Default for Options {
    /// 4 MiB, and nothing denied.
    fn default() -> Options {
        Options { capacity: 4 << 20, deny: false }
    }
}

/// How much code memory is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of pages that there may be.
    pub capacity: usize,
    /// Bytes in stubs, and between them for alignment.
    pub used_bytes: usize,
    /// Pages that have code.
    pub pages: usize,
    /// Stubs, each counted once however often it was asked for.
    pub stubs: usize,
}

/// Compiles traces to stubs in code memory of its own.
///
/// Its lock is held for bookkeeping and for putting code into place, never
/// while foreign code or the host's code runs.
#[derive(Debug)]
pub struct Jit {
    options: Options,
    host: &'static Convention,
    state: Mutex<State>,
    /// The process that locked `state` last.
    locked_by: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    /// None before the first use; then what the probe gave, for good.
    arena: Option<Result<Arena, Refusal>>,
    /// For each trace, its stubs and their fallbacks.
    cache: HashMap<Arc<Trace>, Vec<(u64, Stub)>, BuildWordHasher>,
    stubs: usize,
    tables: Tables,
}

impl State {
    fn cached(&self, trace: &Trace, fallback: u64) -> Option<Stub> {
        let stubs = self.cache.get(trace)?;
        stubs.iter().find(|(known, _)| *known == fallback).map(|(_, stub)| stub.clone())
    }

    fn arena(&mut self, options: &Options) -> Result<&mut Arena, Refusal> {
        let arena =
            self.arena.get_or_insert_with(|| match (cfg!(target_arch = "x86_64"), options) {
                (false, _) => Err(UNSUPPORTED_PROCESSOR),
                (true, Options { deny: true, .. }) => Err(NO_EXECUTABLE_MEMORY),
                (true, Options { capacity, .. }) => Arena::probe(*capacity),
            });
        arena.as_mut().map_err(|refusal| *refusal)
    }
}

impl Jit {
    /// A compiler whose stubs are entered by the host's C convention. Memory
    /// is asked for on first use.
    pub fn new(options: Options) -> Jit {
        Jit::entered_by(Abi::HOST, options)
    }

    /// A compiler whose stubs are entered by the convention `host`, which is
    /// also that of all helpers.
    pub(crate) fn entered_by(host: Abi, options: Options) -> Jit {
        Jit {
            options,
            host: convention(host),
            state: Mutex::default(),
            locked_by: AtomicU32::new(process::id()),
        }
    }

    /// Asks the system for executable memory, if that was not done yet.
    ///
    /// # Errors
    /// Why nothing can be compiled here.
    pub fn probe(&self) -> Result<(), Refusal> {
        let _errno = KeepErrno::new();
        self.lock()?.arena(&self.options).map(|_| ())
    }

    /// Whether traces can be compiled. The first question is [`Self::probe`].
    ///
    /// # Errors
    /// Why not.
    pub fn status(&self) -> Result<(), Refusal> {
        self.probe()
    }

    /// How much code memory is in use now.
    pub fn usage(&self) -> Usage {
        let Ok(state) = self.lock() else { return Usage::default() };
        let capacity = self.options.capacity;
        match &state.arena {
            Some(Ok(arena)) => Usage {
                capacity: arena.capacity(),
                used_bytes: arena.used(),
                pages: arena.pages(),
                stubs: state.stubs,
            },
            _ => Usage { capacity, ..Usage::default() },
        }
    }

    /// Locks the state. In a child of `fork`, a lock that was held by another
    /// thread of the parent is never released; then there is no compiling.
    fn lock(&self) -> Result<MutexGuard<'_, State>, Refusal> {
        let guard = match self.state.try_lock() {
            Ok(guard) => guard,
            // What is kept is whole after every step, so a panic did no harm.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.locked_by.load(Relaxed) != process::id() => {
                return Err(FORKED_WHILE_COMPILING);
            }
            Err(TryLockError::WouldBlock) => {
                self.state.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        self.locked_by.store(process::id(), Relaxed);
        Ok(guard)
    }
}

impl Default for Jit {
    fn default() -> Jit {
        Jit::new(Options::default())
    }
}

impl Backend for Jit {
    type Stub = Stub;

    /// Compiles `trace`, or finds the stub that an equal pair of trace and
    /// fallback was given before. errno stays as it is.
    fn compile(&self, trace: &Trace, fallback: u64) -> Result<Stub, Refusal> {
        let _errno = KeepErrno::new();
        let mut state = self.lock()?;
        state.arena(&self.options)?;
        if let Some(stub) = state.cached(trace, fallback) {
            return Ok(stub);
        }
        drop(state);

        verify(trace).map_err(|_| INVALID_TRACE)?;
        let (code, rows) = assemble(trace, fallback, self.host)?;

        let mut state = self.lock()?;
        // Another thread may have compiled the same meanwhile.
        if let Some(stub) = state.cached(trace, fallback) {
            return Ok(stub);
        }
        let arena = state.arena(&self.options)?;
        let entry = arena.install(&code)?;
        let around = arena.around(entry, code.len());
        // Before anyone can enter it, and so be found in it.
        state.tables.add(entry..entry + code.len() as u64, &around, &rows);
        let trace = Arc::new(trace.clone());
        let stub = Stub::new(entry, (code, rows), Arc::clone(&trace), fallback);
        state.stubs += 1;
        state.cache.entry(trace).or_default().push((fallback, stub.clone()));
        Ok(stub)
    }

    fn entry(&self, stub: &Stub) -> u64 {
        stub.entry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::memory::forked;

    #[test]
    fn threads_share_a_compiler_and_its_stubs() {
        fn shared<T: Send + Sync>() {}
        shared::<Jit>();
        shared::<Stub>();
    }

    #[test]
    fn a_child_that_was_forked_while_compiling_refuses() {
        let jit = Jit::default();
        let held = jit.lock();
        let child = || jit.probe() == Err(FORKED_WHILE_COMPILING);
        assert!(forked(|| drop(held), child));
        assert_eq!(jit.probe(), Ok(()));
    }
}
