//! The operation set: the vocabulary in which marshalling rules are written,
//! and [`Live`], the reading that acts at once.
//!
//! **Invariant.** A rule decides only by `test_*`: then the recording reading
//! sees each decision, and a guard stands in the trace for it. `peek` leaves no
//! guard, so a rule that has looked must go on with a test that holds only for
//! what it saw, or in a way that is right for any value.

use std::sync::Arc;

use hotcall_core::PreparedCall;

use crate::host::{Helper, Host};
use crate::ir::{Field, Mem, Op, Symbol};
use crate::semantics::pure;

/// What a marshalling rule may do.
///
/// The required methods are the operations; the provided ones give them names.
pub trait Ops {
    /// A value: 64 bits, and in the recording reading their name.
    type Word: Copy;

    /// A number.
    fn constant(&mut self, word: u64) -> Self::Word;

    /// An address that has a name.
    fn symbol(&mut self, symbol: &Symbol) -> Self::Word;

    /// A pure operation: `extend` uses `mem`, operations on one value ignore `b`.
    fn pure(&mut self, op: Op, mem: Mem, a: Self::Word, b: Self::Word) -> Self::Word;

    /// The base of this thread's own storage.
    fn thread(&mut self) -> Self::Word;

    /// The address of so many bytes that belong to this run until it ends; each
    /// run has one such piece of memory, of one size.
    fn scratch(&mut self, bytes: u64) -> Self::Word;

    /// The field's value in the object at `base`.
    fn load(&mut self, base: Self::Word, field: Field) -> Self::Word;

    /// Writes the field of the object at `base`; an effect.
    fn store(&mut self, base: Self::Word, field: Field, value: Self::Word);

    /// Whether the words are equal; a guard in the direction that it went.
    fn test_eq(&mut self, a: Self::Word, b: Self::Word) -> bool;

    /// Whether `a` is below `b`, unsigned; a guard in the direction that it went.
    fn test_lt(&mut self, a: Self::Word, b: Self::Word) -> bool;

    /// What the word is this time. It leaves no guard.
    fn peek(&self, a: Self::Word) -> u64;

    /// Calls a helper of the host. A helper without a result gives zero.
    fn help(&mut self, helper: &'static Helper, args: &[Self::Word]) -> Self::Word;

    /// The word `usual`, unless `unusual` is not 0: then what a helper that gives
    /// a word makes of `args`.
    fn help_if(
        &mut self,
        unusual: Self::Word,
        usual: Self::Word,
        helper: &'static Helper,
        args: &[Self::Word],
    ) -> Self::Word;

    /// Calls the foreign function at `target` with canonical words, one for
    /// each argument, or as many as a struct takes. The result's bytes above its
    /// width are undefined; a struct is returned as the address of memory that
    /// stays until the next call.
    fn call(
        &mut self,
        call: &Arc<PreparedCall>,
        target: Self::Word,
        args: &[Self::Word],
    ) -> Self::Word;

    /// Returns `value` to the caller of the stub if `condition` is not 0. Where
    /// this gives true, the rule ends at once and gives `value` too.
    fn return_if(&mut self, condition: Self::Word, value: Self::Word) -> bool;

    /// The sum.
    fn add(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.pure(Op::Add, Mem::I64, a, b)
    }

    /// The difference.
    fn sub(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.pure(Op::Sub, Mem::I64, a, b)
    }

    /// The product.
    fn mul(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.pure(Op::Mul, Mem::I64, a, b)
    }

    /// Bitwise and.
    fn and(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.pure(Op::And, Mem::I64, a, b)
    }

    /// Shifts left.
    fn shl(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.pure(Op::Shl, Mem::I64, a, b)
    }

    /// Shifts right, filling with zeros.
    fn shr(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.pure(Op::Shr, Mem::I64, a, b)
    }

    /// 1 if the words differ, else 0.
    fn ne(&mut self, a: Self::Word, b: Self::Word) -> Self::Word {
        self.pure(Op::Ne, Mem::I64, a, b)
    }

    /// Widens the low bytes as a load of type `mem` would.
    fn extend(&mut self, mem: Mem, a: Self::Word) -> Self::Word {
        self.pure(Op::Extend, mem, a, a)
    }

    /// The nearest double to a signed integer.
    fn to_f64(&mut self, a: Self::Word) -> Self::Word {
        self.pure(Op::ToF64, Mem::I64, a, a)
    }

    /// The nearest float to a double.
    fn demote(&mut self, a: Self::Word) -> Self::Word {
        self.pure(Op::Demote, Mem::I64, a, a)
    }

    /// The double equal to a float.
    fn promote(&mut self, a: Self::Word) -> Self::Word {
        self.pure(Op::Promote, Mem::I64, a, a)
    }

    /// The bits of a double.
    fn bits(&mut self, a: Self::Word) -> Self::Word {
        self.pure(Op::Bits, Mem::I64, a, a)
    }

    /// The bits of a float.
    fn bits32(&mut self, a: Self::Word) -> Self::Word {
        self.pure(Op::Bits32, Mem::I64, a, a)
    }

    /// The `size` bytes from 1 to 8 that lie `offset` bytes into the memory at
    /// `base`, and none behind them, as the low bytes of a word.
    fn load_bytes(&mut self, base: Self::Word, offset: usize, size: usize) -> Self::Word {
        let mut done = 0;
        let mut word = None;
        while done < size {
            let mem = Mem::widest(size - done);
            let part = self.load(base, Field::new("bytes", (offset + done) as i32, mem));
            word = Some(match word {
                None => part,
                Some(low) => {
                    let bits = self.constant(8 * done as u64);
                    let high = self.shl(part, bits);
                    self.pure(Op::Or, Mem::I64, low, high)
                }
            });
            done += mem.size() as usize;
        }
        word.unwrap_or_else(|| self.constant(0))
    }

    /// Whether the word is the address of `symbol`; a guard.
    fn is(&mut self, a: Self::Word, symbol: &Symbol) -> bool {
        let b = self.symbol(symbol);
        self.test_eq(a, b)
    }

    /// Whether the word is this number; a guard.
    fn test_is(&mut self, a: Self::Word, number: u64) -> bool {
        let b = self.constant(number);
        self.test_eq(a, b)
    }
}

/// The reading that acts at once: the interpreter.
#[derive(Debug)]
pub struct Live<'h, H> {
    /// Performs what touches the world.
    pub host: &'h mut H,
}

impl<H: Host> Ops for Live<'_, H> {
    type Word = u64;

    #[inline(always)]
    fn constant(&mut self, word: u64) -> u64 {
        word
    }

    #[inline(always)]
    fn symbol(&mut self, symbol: &Symbol) -> u64 {
        symbol.address
    }

    #[inline(always)]
    fn pure(&mut self, op: Op, mem: Mem, a: u64, b: u64) -> u64 {
        pure(op, mem, a, b)
    }

    #[inline(always)]
    fn thread(&mut self) -> u64 {
        self.host.thread()
    }

    #[inline(always)]
    fn scratch(&mut self, bytes: u64) -> u64 {
        self.host.scratch(bytes)
    }

    #[inline(always)]
    fn load(&mut self, base: u64, field: Field) -> u64 {
        self.host.load(field.mem, base.wrapping_add_signed(field.offset.into()))
    }

    #[inline(always)]
    fn store(&mut self, base: u64, field: Field, value: u64) {
        self.host.store(field.mem, base.wrapping_add_signed(field.offset.into()), value);
    }

    #[inline(always)]
    fn test_eq(&mut self, a: u64, b: u64) -> bool {
        a == b
    }

    #[inline(always)]
    fn test_lt(&mut self, a: u64, b: u64) -> bool {
        a < b
    }

    #[inline(always)]
    fn peek(&self, a: u64) -> u64 {
        a
    }

    #[inline(always)]
    fn return_if(&mut self, condition: u64, _value: u64) -> bool {
        condition != 0
    }

    #[inline(always)]
    fn help(&mut self, helper: &'static Helper, args: &[u64]) -> u64 {
        self.host.help(helper, args)
    }

    #[inline(always)]
    fn help_if(&mut self, unusual: u64, usual: u64, helper: &'static Helper, args: &[u64]) -> u64 {
        if unusual == 0 { usual } else { self.host.help(helper, args) }
    }

    #[inline(always)]
    fn call(&mut self, call: &Arc<PreparedCall>, target: u64, args: &[u64]) -> u64 {
        self.host.call(call, target, args)
    }
}
