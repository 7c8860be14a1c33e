//! The generic path: what makes the calls of a function that has no stub, and
//! the calls that its stub does not take. It reads the marshalling rules live,
//! or records them once the function is hot.

#![allow(unsafe_code, reason = "entered from machine code, with raw pointers")]

use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use hotcall_core::{PreparedCall, Value};
use hotcall_tracer::{Helper, Host, Live, Mem, Plan, Recorder, Refusal};

use crate::errno::Errno;
use crate::function::{Entry, Outcome, Record};
use crate::machine::Machine;
use crate::rules;

/// Makes a call, without a stub. A panic here, which would be a bug, ends the
/// process: none ever crosses the frames of stubs.
///
/// # Safety
/// - `args` points to `count` values, and `outcome` may be written; its result
///   is memory for a struct, if the function returns one.
/// - `record` is that of a function, for which the caller vouches as in
///   [`Function::call`](crate::Function::call).
pub(crate) unsafe extern "C" fn generic(
    args: *const Value,
    count: usize,
    outcome: *mut Outcome,
    record: *const Record,
) -> u64 {
    // SAFETY: the caller vouches for it, and whoever calls a function has it.
    let this = unsafe { &*record };
    let words = [
        args.expose_provenance() as u64,
        count as u64,
        outcome.expose_provenance() as u64,
        record.expose_provenance() as u64,
    ];
    // SAFETY: the rules read `count` values at `args` and a record's own fields,
    // as the words are in this order, and write to the result alone. They call the record's
    // target with words of its declared types.
    let mut host = Caller { machine: unsafe { Machine::new() }, errno: Errno::now() };
    this.interpreted.store(this.interpreted.load(Relaxed) + 1, Relaxed);
    let made = match this.site.plan() {
        Plan::Record => record_call(this, &mut host, words),
        Plan::Interpret | Plan::Decline => {
            rules::call(&mut Live { host: &mut host }, &this.call, words)
        }
    };
    let word = made.unwrap_or_else(|refusal| {
        this.site.refuse(refusal);
        // SAFETY: the caller lets it be written.
        unsafe { (*outcome).refused = true };
        0
    });
    host.errno.restore();
    word
}

/// Makes the call, and compiles what it did.
///
/// # Errors
/// What refuses the call. That the compiler refuses is no error: the call was
/// made, and the site knows.
#[cold]
fn record_call(this: &Record, host: &mut Caller, words: [u64; 4]) -> Result<u64, Refusal> {
    let (mut recorder, words) = Recorder::enter(host, words);
    let result = rules::call(&mut recorder, &this.call, words)?;
    if let Some(trace) = recorder.finish(result) {
        let fallback = generic as Entry as usize as u64;
        if let Ok(entry) = this.site.add(trace, this.engine.jit(), fallback) {
            this.publish(ptr::with_exposed_provenance_mut(entry as usize));
        }
    }
    Ok(result.word)
}

/// The machine, and the errno that the program believes to have: the foreign
/// function finds it and leaves another, whatever happens before and after.
struct Caller {
    machine: Machine,
    errno: Errno,
}

impl Host for Caller {
    #[inline(always)]
    fn thread(&mut self) -> u64 {
        self.machine.thread()
    }

    fn scratch(&mut self, bytes: u64) -> u64 {
        self.machine.scratch(bytes)
    }

    #[inline(always)]
    fn load(&mut self, mem: Mem, address: u64) -> u64 {
        self.machine.load(mem, address)
    }

    #[inline(always)]
    fn store(&mut self, mem: Mem, address: u64, word: u64) {
        self.machine.store(mem, address, word);
    }

    #[inline(always)]
    fn help(&mut self, helper: &'static Helper, args: &[u64]) -> u64 {
        self.machine.help(helper, args)
    }

    #[inline(always)]
    fn call(&mut self, call: &PreparedCall, target: u64, args: &[u64]) -> u64 {
        self.errno.restore();
        let word = self.machine.call(call, target, args);
        self.errno = Errno::now();
        word
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;
    use std::io;

    /// Gives errno to the caller, and leaves another.
    extern "C" fn swap(value: i32) -> i32 {
        let found = io::Error::last_os_error().raw_os_error();
        Errno::of(value).restore();
        found.unwrap_or(0)
    }

    /// Sets errno, as allocating and locking may.
    fn disturb() {
        assert!(fs::metadata("/nowhere").is_err());
    }

    #[test]
    fn errno_goes_past_what_the_generic_path_does() {
        let signature = "fn(i32) -> i32".parse().unwrap();
        let call = PreparedCall::new(&signature).unwrap();
        Errno::of(11).restore();
        // SAFETY: it only makes a call, of a function of this signature.
        let machine = unsafe { Machine::new() };
        let mut host = Caller { machine, errno: Errno::now() };
        disturb();
        assert_eq!(host.call(&call, swap as *const () as u64, &[22]), 11);
        disturb();
        host.errno.restore();
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(22));
    }
}
