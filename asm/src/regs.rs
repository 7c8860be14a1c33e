//! Registers, sets of registers, and what each calling convention says about
//! them, as data. Everything else in this crate asks here.

use hotcall_core::{Abi, Class, Place};
use iced_x86::Register;

/// A general purpose register (0 to 15, in the order of their encoding) or a
/// vector register (16 to 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reg(u8);

#[allow(dead_code, reason = "a whole table")]
#[rustfmt::skip] // One table.
impl Reg {
    pub(crate) const RAX: Reg = Reg(0);
    pub(crate) const RCX: Reg = Reg(1);
    pub(crate) const RDX: Reg = Reg(2);
    pub(crate) const RBX: Reg = Reg(3);
    pub(crate) const RSP: Reg = Reg(4);
    pub(crate) const RBP: Reg = Reg(5);
    pub(crate) const RSI: Reg = Reg(6);
    pub(crate) const RDI: Reg = Reg(7);
    pub(crate) const R8: Reg = Reg(8);
    pub(crate) const R9: Reg = Reg(9);
    pub(crate) const R10: Reg = Reg(10);
    pub(crate) const R11: Reg = Reg(11);
    pub(crate) const R12: Reg = Reg(12);
    pub(crate) const R13: Reg = Reg(13);
    pub(crate) const R14: Reg = Reg(14);
    pub(crate) const R15: Reg = Reg(15);
}

impl Reg {
    /// The vector register of this index.
    pub(crate) const fn xmm(index: u8) -> Reg {
        Reg(16 + index)
    }

    /// Whether it is a vector register.
    pub(crate) const fn is_vector(self) -> bool {
        self.0 >= 16
    }

    /// Which vector register it is, if it is one.
    pub(crate) fn vector_index(self) -> Option<u8> {
        self.0.checked_sub(16)
    }

    /// The number in the encoding of instructions, of a general purpose register.
    pub(crate) const fn encoding(self) -> u8 {
        self.0
    }

    /// The whole register: 64 bits, or a vector.
    pub(crate) fn full(self) -> Register {
        match self.is_vector() {
            true => Register::XMM0 + u32::from(self.0 - 16),
            false => Register::RAX + u32::from(self.0),
        }
    }

    /// The low 32 bits of a general purpose register.
    pub(crate) fn low32(self) -> Register {
        Register::EAX + u32::from(self.0)
    }

    /// The low 16 bits of a general purpose register.
    pub(crate) fn low16(self) -> Register {
        Register::AX + u32::from(self.0)
    }

    /// The low 8 bits of a general purpose register.
    pub(crate) fn low8(self) -> Register {
        match self.0 {
            // Between BL and SPL the enumeration has AH to BH.
            0..=3 => Register::AL + u32::from(self.0),
            _ => Register::SPL + u32::from(self.0 - 4),
        }
    }
}

/// A set of registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegSet(u32);

impl RegSet {
    /// The set of these.
    pub(crate) const fn of(regs: &[Reg]) -> RegSet {
        let mut set = RegSet(0);
        let mut index = 0;
        while index < regs.len() {
            set.0 |= 1 << regs[index].0;
            index += 1;
        }
        set
    }

    /// Whether `reg` is in it.
    pub(crate) const fn contains(self, reg: Reg) -> bool {
        self.0 & (1 << reg.0) != 0
    }

    /// Puts `reg` in.
    pub(crate) const fn insert(&mut self, reg: Reg) {
        self.0 |= 1 << reg.0;
    }

    /// Takes `reg` out.
    pub(crate) const fn remove(&mut self, reg: Reg) {
        self.0 &= !(1 << reg.0);
    }

    /// What is in either set.
    pub(crate) const fn or(self, other: RegSet) -> RegSet {
        RegSet(self.0 | other.0)
    }

    /// What is in both sets.
    pub(crate) const fn and(self, other: RegSet) -> RegSet {
        RegSet(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    pub(crate) const fn minus(self, other: RegSet) -> RegSet {
        RegSet(self.0 & !other.0)
    }

    /// Its registers, in the order of their encoding, vectors last.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = Reg> {
        (0..32).map(Reg).filter(move |reg| self.contains(*reg))
    }
}

/// Takes constants, spilled operands, and the target of a call. No value lives in it.
pub(crate) const CONSTANT: Reg = Reg::R11;
/// Takes whatever passes through: spilled results, moves from memory to
/// memory, cycles of moves. No value lives in it.
pub(crate) const PASSING: Reg = Reg::R10;

/// What a callback is entered with besides its arguments: no convention passes
/// an argument here. Nothing passes through before it is at home.
pub(crate) const CONTEXT: Reg = PASSING;

/// Where a loop has the table of its columns. No value lives there.
pub(crate) const TABLE: Reg = Reg::RBX;
/// Where a loop has the number of its turn. No value lives there.
pub(crate) const NUMBER: Reg = Reg::R12;

/// What a calling convention says about registers.
#[derive(Debug)]
pub(crate) struct Convention {
    /// Which one it is.
    pub(crate) abi: Abi,
    /// The registers of integer arguments, in order.
    ints: &'static [Reg],
    /// What a call leaves as it was.
    pub(crate) preserved: RegSet,
    /// The registers for values that no call interrupts, best first: those of
    /// later arguments before those of earlier ones, which are in demand.
    pub(crate) volatile: &'static [Reg],
    /// The same for doubles and floats.
    pub(crate) volatile_vectors: &'static [Reg],
    /// Takes spilled doubles. No value lives in it.
    pub(crate) passing_vector: Reg,
}

impl Convention {
    /// The register that `place` names; none if it is on the stack.
    pub(crate) fn register(&self, place: Place) -> Option<Reg> {
        match place {
            Place::Gp(index) => Some(self.ints[usize::from(index)]),
            Place::Fp(index) => Some(Reg::xmm(index)),
            Place::Stack(_) | Place::Copy { .. } => None,
        }
    }

    /// The register of the `index`-th word that a stub is entered with.
    pub(crate) fn entry(&self, index: usize) -> Option<Reg> {
        self.ints.get(index).copied()
    }
}

/// Where an integer is returned.
pub(crate) const RESULT: Reg = Reg::RAX;
/// Where a double or a float is returned.
pub(crate) const VECTOR_RESULT: Reg = Reg::xmm(0);

/// Where the words of a struct are returned, by their classes; there are at most two.
pub(crate) fn result_registers(words: &[Class]) -> Vec<Reg> {
    let mut ints = [RESULT, Reg::RDX].into_iter();
    let mut vectors = [VECTOR_RESULT, Reg::xmm(1)].into_iter();
    let next = |class: &Class| if *class == Class::Int { ints.next() } else { vectors.next() };
    words.iter().filter_map(next).collect()
}

const fn vectors<const N: usize>(mut first: u8, step: i8) -> [Reg; N] {
    let mut regs = [Reg::xmm(0); N];
    let mut index = 0;
    while index < N {
        regs[index] = Reg::xmm(first);
        first = first.wrapping_add_signed(step);
        index += 1;
    }
    regs
}

/// Source: System V ABI, AMD64 supplement, section 3.2.1, figure 3.4.
static SYSTEM_V: Convention = Convention {
    abi: Abi::SystemV,
    ints: &[Reg::RDI, Reg::RSI, Reg::RDX, Reg::RCX, Reg::R8, Reg::R9],
    preserved: RegSet::of(&[Reg::RBX, Reg::RBP, Reg::R12, Reg::R13, Reg::R14, Reg::R15]),
    volatile: &[Reg::RAX, Reg::R9, Reg::R8, Reg::RCX, Reg::RDX, Reg::RSI, Reg::RDI],
    volatile_vectors: &vectors::<15>(14, -1),
    passing_vector: Reg::xmm(15),
};

/// Source: Microsoft, "x64 ABI conventions", section "Caller/callee saved registers".
static WIN64: Convention = Convention {
    abi: Abi::Win64,
    ints: &[Reg::RCX, Reg::RDX, Reg::R8, Reg::R9],
    preserved: RegSet::of(&[
        Reg::RBX,
        Reg::RBP,
        Reg::RSI,
        Reg::RDI,
        Reg::R12,
        Reg::R13,
        Reg::R14,
        Reg::R15,
    ])
    .or(RegSet::of(&vectors::<10>(6, 1))),
    volatile: &[Reg::RAX, Reg::R9, Reg::R8, Reg::RDX, Reg::RCX],
    volatile_vectors: &vectors::<5>(4, -1),
    passing_vector: Reg::xmm(5),
};

/// What the convention `abi` says.
pub(crate) fn convention(abi: Abi) -> &'static Convention {
    match abi {
        Abi::SystemV => &SYSTEM_V,
        Abi::Win64 => &WIN64,
    }
}

/// The general purpose registers that a value may live in across calls, if
/// the calls preserve them.
pub(crate) const LASTING: RegSet =
    RegSet::of(&[Reg::RBX, Reg::RSI, Reg::RDI, Reg::R12, Reg::R13, Reg::R14, Reg::R15]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_parts() {
        let check = |reg: Reg, want: [Register; 4]| {
            assert_eq!([reg.full(), reg.low32(), reg.low16(), reg.low8()], want);
        };
        check(Reg::RBX, [Register::RBX, Register::EBX, Register::BX, Register::BL]);
        check(Reg::RSP, [Register::RSP, Register::ESP, Register::SP, Register::SPL]);
        check(Reg::RDI, [Register::RDI, Register::EDI, Register::DI, Register::DIL]);
        check(Reg::R15, [Register::R15, Register::R15D, Register::R15W, Register::R15L]);
        assert_eq!(Reg::xmm(13).full(), Register::XMM13);
    }

    #[test]
    fn no_value_lives_in_a_register_with_another_duty() {
        for convention in [&SYSTEM_V, &WIN64] {
            let duties = RegSet::of(&[CONSTANT, PASSING, Reg::RSP, Reg::RBP]);
            let of_loops = RegSet::of(&[TABLE, NUMBER]);
            assert_eq!(convention.preserved.and(of_loops), of_loops);
            let homes = RegSet::of(convention.volatile)
                .or(RegSet::of(convention.volatile_vectors))
                .or(convention.preserved.and(LASTING));
            assert_eq!(homes.and(duties), RegSet::default());
            assert!(!homes.contains(convention.passing_vector));
            assert_eq!(
                RegSet::of(convention.volatile).and(convention.preserved),
                RegSet::default()
            );
        }
    }
}
