//! The compiler with its code memory and its cache. A stub depends on nothing
//! but its trace and its fallback, so equal pairs share one.

use std::collections::HashMap;
use std::sync::Arc;

use hotcall_core::{Abi, Signature};
use hotcall_tracer::{Backend, BuildWordHasher, Refusal, Trace, verify};

use crate::guarded::Guarded;
use crate::interface::Entry;
use crate::lower::assemble;
use crate::memory::{Arena, KeepErrno};
use crate::refusals::{INVALID_TRACE, NO_EXECUTABLE_MEMORY, UNSUPPORTED_PROCESSOR};
use crate::regs::{Convention, convention};
use crate::stub::Stub;
use crate::tables::Tables;
use crate::trampoline::{Slots, Trampoline, block};
use crate::unwind::Row;

/// What a [`Jit`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of code memory at most, rounded up to whole pages. They are
    /// addresses only, until there is code in them; a limit of the process on
    /// its addresses (`RLIMIT_AS`) counts them all.
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
    /// Bytes in stubs and trampolines, and between them for alignment.
    pub used_bytes: usize,
    /// Pages that have code.
    pub pages: usize,
    /// Stubs, each counted once however often it was asked for.
    pub stubs: usize,
    /// Trampolines that are in use.
    pub trampolines: usize,
    /// Trampolines that there is code for; those that are not in use wait for it.
    pub trampoline_slots: usize,
}

/// Compiles traces to stubs in code memory of its own.
///
/// Its lock is held for bookkeeping and for putting code into place, never
/// while foreign code or the host's code runs.
#[derive(Debug)]
pub struct Jit {
    options: Options,
    host: &'static Convention,
    state: Guarded<State>,
    /// Locked before `state`, where both are.
    slots: Arc<Guarded<Slots>>,
}

#[derive(Debug, Default)]
struct State {
    /// None before the first use; then what the probe gave, for good.
    arena: Option<Result<Arena, Refusal>>,
    /// For each trace, its stubs and how they are entered.
    cache: HashMap<Arc<Trace>, Vec<(Entry, Stub)>, BuildWordHasher>,
    stubs: usize,
    tables: Tables,
}

impl State {
    fn cached(&self, trace: &Trace, entry: &Entry) -> Option<Stub> {
        let stubs = self.cache.get(trace)?;
        stubs.iter().find(|(known, _)| known == entry).map(|(_, stub)| stub.clone())
    }

    /// Puts code into place, and tells how to unwind it before anyone can be in it.
    fn install(&mut self, options: &Options, code: &[u8], rows: &[Row]) -> Result<u64, Refusal> {
        let arena = self.arena(options)?;
        let address = arena.install(code)?;
        let around = arena.around(address, code.len());
        self.tables.add(address..address + code.len() as u64, &around, rows);
        Ok(address)
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
        Jit { options, host: convention(host), state: Guarded::default(), slots: Arc::default() }
    }

    /// The convention by which stubs are entered.
    #[cfg(test)]
    pub(crate) fn host(&self) -> Abi {
        self.host.abi
    }

    /// Asks the system for executable memory, if that was not done yet.
    ///
    /// # Errors
    /// Why nothing can be compiled here.
    pub fn probe(&self) -> Result<(), Refusal> {
        let _errno = KeepErrno::new();
        self.state.lock()?.arena(&self.options).map(|_| ())
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
        let capacity = self.options.capacity;
        let mut usage = Usage { capacity, ..Usage::default() };
        if let Ok(slots) = self.slots.lock() {
            (usage.trampolines, usage.trampoline_slots) = slots.count();
        }
        if let Ok(state) = self.state.lock()
            && let Some(Ok(arena)) = &state.arena
        {
            usage.capacity = arena.capacity();
            usage.used_bytes = arena.used();
            usage.pages = arena.pages();
            usage.stubs = state.stubs;
        }
        usage
    }

    /// Compiles `trace` to a C function of this signature, or finds it compiled.
    /// It is entered by way of a [`Trampoline`], which gives it its context.
    ///
    /// The trace's parameters are these words, in order:
    ///
    /// 1. the context;
    /// 2. if the signature returns a struct, the address of memory for it, which
    ///    the trace fills: `ret` then says nothing about the result;
    /// 3. the words of the arguments, as the operation `call` takes them: canonical
    ///    words of scalars; for a struct in registers one for each 8 bytes, of
    ///    which the bytes behind its end are undefined; the address of a copy that
    ///    belongs to the callee, for a struct in memory.
    ///
    /// `ret` gives the result as a word, of which the low bytes count; a double or
    /// a float is given by its bits. There is no guard in such a trace: nobody
    /// could take over. errno stays as it is.
    ///
    /// # Errors
    /// See [`refusals`](crate::refusals).
    pub fn compile_callback(&self, trace: &Trace, signature: &Signature) -> Result<Stub, Refusal> {
        self.stub(trace, Entry::Callback(signature.clone()))
    }

    /// Compiles `trace` to a loop over columns, or finds it compiled: a C function
    /// `fn(table: *const u64, first: u64)` of the host's convention.
    ///
    /// The trace is run once in each turn, from turn `first` up to and without the
    /// turn that the last word of the table names; there is at least one. In turn
    /// `i` its parameter `n` is `table[n] + i * strides[n]`, modulo 2^64: the address
    /// of an item, or with a stride of 0 the same word each time. The table has one
    /// word for each parameter, and the one behind them. What `ret` gives is nothing
    /// to anybody. errno is the trace's.
    ///
    /// # Errors
    /// See [`refusals`](crate::refusals).
    pub fn compile_loop(&self, trace: &Trace, strides: &[i32]) -> Result<Stub, Refusal> {
        self.stub(trace, Entry::Loop(strides.to_vec()))
    }

    /// A C function that goes to `target` with `context` in the register from which
    /// stubs of [`Jit::compile_callback`] take it. errno stays as it is.
    ///
    /// # Errors
    /// If there is no code memory for it.
    pub fn trampoline(&self, target: u64, context: u64) -> Result<Trampoline, Refusal> {
        let _errno = KeepErrno::new();
        let mut slots = self.slots.lock()?;
        if slots.is_used_up() {
            let (fresh, code) = block();
            let address = self.state.lock()?.install(&self.options, &code, &[])?;
            slots.add(fresh, address);
        }
        Ok(slots.take(&self.slots, target, context))
    }

    /// The stub for `trace` that is entered as `entry` says.
    fn stub(&self, trace: &Trace, entry: Entry) -> Result<Stub, Refusal> {
        let _errno = KeepErrno::new();
        let mut state = self.state.lock()?;
        state.arena(&self.options)?;
        if let Some(stub) = state.cached(trace, &entry) {
            return Ok(stub);
        }
        drop(state);

        verify(trace).map_err(|_| INVALID_TRACE)?;
        let (code, rows) = assemble(trace, &entry, self.host)?;

        let mut state = self.state.lock()?;
        // Another thread may have compiled the same meanwhile.
        if let Some(stub) = state.cached(trace, &entry) {
            return Ok(stub);
        }
        let address = state.install(&self.options, &code, &rows)?;
        let trace = Arc::new(trace.clone());
        let stub = Stub::new(address, (code, rows), Arc::clone(&trace), &entry);
        state.stubs += 1;
        state.cache.entry(trace).or_default().push((entry, stub.clone()));
        Ok(stub)
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
        self.stub(trace, Entry::Words { fallback })
    }

    fn entry(&self, stub: &Stub) -> u64 {
        stub.entry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_compiler_and_its_stubs() {
        fn shared<T: Send + Sync>() {}
        shared::<Jit>();
        shared::<Stub>();
        shared::<Trampoline>();
    }
}
