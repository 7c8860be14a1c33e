//! The two calling conventions of x86-64, and where each of them puts the
//! arguments of a call. The result is plain data: which register or stack
//! slot, never how to fill it.

use std::fmt;

use crate::StructType;
use crate::types::{CType, Class};

/// A calling convention.
///
/// On a processor other than x86-64, [`Abi::HOST`] stands for the convention
/// of the system's C compiler, and [`Abi::places`] does not describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// System V ABI, AMD64 supplement: Linux, macOS, the BSDs.
    SystemV,
    /// The Microsoft x64 calling convention: Windows, UEFI.
    Win64,
}

/// Where one argument is when the call instruction executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The integer argument register of this index. System V: rdi, rsi, rdx,
    /// rcx, r8, r9. Win64: rcx, rdx, r8, r9.
    Gp(u8),
    /// The vector argument register of this index. System V: xmm0 to xmm7.
    /// Win64: xmm0 to xmm3.
    Fp(u8),
    /// The byte offset from the stack pointer at the call instruction, a
    /// multiple of 8. The first is 0 for System V and 32 for Win64, behind
    /// the shadow space.
    Stack(u32),
    /// A struct in memory, whose address the word is: it is copied to this byte
    /// offset from the stack pointer at the call instruction.
    Copy {
        /// The offset, a multiple of the struct's alignment and of 8.
        offset: u32,
        /// How many bytes there are.
        size: u32,
    },
}

/// Where all the arguments of a call are; made by [`Abi::places`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// One place for each word of the arguments, in order; a struct in registers
    /// has several, see [`CType::words`]. No two are the same.
    pub args: Vec<Place>,
    /// The place of the address of memory for the result, if the callee gets one.
    pub result: Option<Place>,
    /// How many bytes below its own frame the caller reserves for arguments,
    /// the shadow space included. A multiple of 16.
    pub stack_bytes: u32,
    /// How many vector registers carry arguments, 0 to 8. A System V caller
    /// of a variadic function puts it in AL; Win64 has no use for it.
    pub vector_registers: u8,
}

/// Why the arguments of a call could not be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unplaced {
    /// An argument is a long double, which fits neither a register nor a word.
    LongDouble,
    /// An argument is void, which is no value.
    Void,
    /// The arguments need more than `u32::MAX` bytes of stack.
    TooMany,
}

/// The size of one argument on the stack in bytes, for every type placed here.
const SLOT: u32 = 8;

impl Abi {
    /// The convention of the system that this crate is built for.
    pub const HOST: Abi = if cfg!(windows) { Abi::Win64 } else { Abi::SystemV };

    /// How many integer registers carry arguments.
    pub const fn gp_registers(self) -> u8 {
        match self {
            Abi::SystemV => 6,
            Abi::Win64 => 4,
        }
    }

    /// How many vector registers carry arguments.
    pub const fn fp_registers(self) -> u8 {
        match self {
            Abi::SystemV => 8,
            Abi::Win64 => 4,
        }
    }

    /// How many bytes the caller reserves on the stack for the callee's own
    /// use, below the arguments that are passed there.
    pub const fn shadow_bytes(self) -> u32 {
        match self {
            Abi::SystemV => 0,
            Abi::Win64 => 32,
        }
    }

    /// Where each of the arguments `args` goes in a call to a function, variadic
    /// or not, with this result.
    ///
    /// In System V the two kinds of register are counted apart. In Win64 the
    /// position of an argument is also the index of its register, so each
    /// argument in a register leaves one of the other kind unused.
    ///
    /// A struct goes to registers as a whole or not at all, and is aligned on the
    /// stack. In Win64, one that is no word is passed by its address.
    ///
    /// # Errors
    /// [`Unplaced`] for the first argument that has no place.
    ///
    /// Source: System V ABI, AMD64 supplement, section 3.2.3; Microsoft,
    /// "x64 calling convention", sections "Parameter passing" and "Calling
    /// convention defaults".
    pub fn places(self, args: &[CType], result: CType) -> Result<Places, Unplaced> {
        let mut placer = Placer {
            abi: self,
            gp: 0,
            fp: 0,
            stack_bytes: self.shadow_bytes(),
            vector_registers: 0,
        };
        let result = match result.is_returned_in_memory(self) {
            true => Some(placer.word(Class::Int)?),
            false => None,
        };
        let mut places = Vec::with_capacity(args.len());
        for arg in args {
            match (arg.as_struct(), arg.classes(self)) {
                (Some(of), []) if self == Abi::SystemV => places.push(placer.copy(of)?),
                (Some(_), []) => places.push(placer.word(Class::Int)?),
                (Some(of), words) if !placer.fits(words) => {
                    placer.align(of)?;
                    for _ in words {
                        places.push(placer.on_stack()?);
                    }
                }
                (_, words) => {
                    for class in words {
                        places.push(placer.word(*class)?);
                    }
                    if words.is_empty() {
                        return Err(Unplaced::Void);
                    }
                }
            }
        }
        let stack_bytes = placer.stack_bytes;
        let stack_bytes = stack_bytes.checked_next_multiple_of(16).ok_or(Unplaced::TooMany)?;
        let vector_registers = placer.vector_registers;
        Ok(Places { args: places, result, stack_bytes, vector_registers })
    }
}

/// What is taken already while arguments are placed.
struct Placer {
    abi: Abi,
    gp: u8,
    fp: u8,
    stack_bytes: u32,
    vector_registers: u8,
}

impl Placer {
    /// The next place for a word.
    fn word(&mut self, class: Class) -> Result<Place, Unplaced> {
        let place = match class {
            Class::Int if self.gp < self.abi.gp_registers() => Place::Gp(self.gp),
            Class::Float32 | Class::Float64 if self.fp < self.abi.fp_registers() => {
                Place::Fp(self.fp)
            }
            Class::Int | Class::Float32 | Class::Float64 => return self.on_stack(),
            Class::X87 => return Err(Unplaced::LongDouble),
            Class::None | Class::Struct => return Err(Unplaced::Void),
        };
        match place {
            Place::Fp(_) => {
                self.fp += 1;
                self.vector_registers += 1;
            }
            _ => self.gp += 1,
        }
        if self.abi == Abi::Win64 {
            self.gp = self.gp.max(self.fp);
            self.fp = self.gp;
        }
        Ok(place)
    }

    /// The next place for a word on the stack.
    fn on_stack(&mut self) -> Result<Place, Unplaced> {
        let offset = self.stack_bytes;
        self.stack_bytes = offset.checked_add(SLOT).ok_or(Unplaced::TooMany)?;
        Ok(Place::Stack(offset))
    }

    /// Moves on to where a struct may stand on the stack, and gives this offset.
    fn align(&mut self, of: &StructType) -> Result<u32, Unplaced> {
        let align = u32::try_from(of.align()).map_err(|_| Unplaced::TooMany)?.max(SLOT);
        let offset = self.stack_bytes.checked_next_multiple_of(align);
        self.stack_bytes = offset.ok_or(Unplaced::TooMany)?;
        Ok(self.stack_bytes)
    }

    /// The next place for the bytes of a struct.
    fn copy(&mut self, of: &StructType) -> Result<Place, Unplaced> {
        let size = u32::try_from(of.size()).map_err(|_| Unplaced::TooMany)?;
        let offset = self.align(of)?;
        let end = offset.checked_add(size).and_then(|end| end.checked_next_multiple_of(SLOT));
        self.stack_bytes = end.ok_or(Unplaced::TooMany)?;
        Ok(Place::Copy { offset, size })
    }

    /// Whether registers are left for all words of a struct.
    fn fits(&self, words: &[Class]) -> bool {
        let ints = words.iter().filter(|class| **class == Class::Int).count();
        usize::from(self.abi.gp_registers() - self.gp) >= ints
            && usize::from(self.abi.fp_registers() - self.fp) >= words.len() - ints
    }
}

/// Prints the name of the convention in the text of a signature and in Rust's
/// `extern`: `sysv64` or `win64`.
impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Abi::SystemV => "sysv64",
            Abi::Win64 => "win64",
        })
    }
}

/// Prints `gp0`, `fp0`, `stack+0`, or `copy+0`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Gp(index) => write!(f, "gp{index}"),
            Place::Fp(index) => write!(f, "fp{index}"),
            Place::Stack(offset) => write!(f, "stack+{offset}"),
            Place::Copy { offset, .. } => write!(f, "copy+{offset}"),
        }
    }
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unplaced::LongDouble => "an argument is a long double, which has no place in a word",
            Unplaced::Void => "an argument is void, which is no value",
            Unplaced::TooMany => "the arguments need more than 4 GiB of stack",
        })
    }
}

impl std::error::Error for Unplaced {}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbtest;
    use std::collections::HashSet;

    /// The places of the arguments in the letters of a word: `i` an integer,
    /// `d` a double.
    fn check(abi: Abi, word: &str, want: &str) {
        let args: Vec<CType> =
            word.chars().map(|c| if c == 'i' { CType::I32 } else { CType::F64 }).collect();
        let places = abi.places(&args, CType::Void).unwrap();
        let texts: Vec<String> = places.args.iter().map(Place::to_string).collect();
        let Places { stack_bytes, vector_registers, .. } = places;
        let got = format!("{} | {stack_bytes} {vector_registers}", texts.join(" "));
        assert_eq!(got, want, "{abi} {word}");
    }

    #[test]
    fn system_v() {
        check(Abi::SystemV, "", " | 0 0");
        check(Abi::SystemV, "idi", "gp0 fp0 gp1 | 0 1");
        check(Abi::SystemV, "iiiiiii", "gp0 gp1 gp2 gp3 gp4 gp5 stack+0 | 16 0");
        check(Abi::SystemV, "iiiiiiiidd", "gp0 gp1 gp2 gp3 gp4 gp5 stack+0 stack+8 fp0 fp1 | 16 2");
        check(
            Abi::SystemV,
            "ddddddddddi",
            "fp0 fp1 fp2 fp3 fp4 fp5 fp6 fp7 stack+0 stack+8 gp0 | 16 8",
        );
    }

    #[test]
    fn win64() {
        check(Abi::Win64, "", " | 32 0");
        check(Abi::Win64, "idi", "gp0 fp1 gp2 | 32 1");
        check(Abi::Win64, "iiiid", "gp0 gp1 gp2 gp3 stack+32 | 48 0");
        check(Abi::Win64, "didid", "fp0 gp1 fp2 gp3 stack+32 | 48 2");
        check(Abi::Win64, "ddddid", "fp0 fp1 fp2 fp3 stack+32 stack+40 | 48 4");
    }

    #[test]
    fn structs_are_aligned_on_the_stack() {
        let fields = vec![(0, CType::I64), (8, CType::I64)];
        let aligned = CType::Struct(StructType::with_layout(fields, 16, 16).unwrap());
        let args = [[CType::I32; 7].as_slice(), &[aligned, CType::I32]].concat();
        let places = Abi::SystemV.places(&args, CType::Void).unwrap();
        let stack = [0, 16, 24, 32].map(Place::Stack);
        assert_eq!((&places.args[6..], places.stack_bytes), (&stack[..], 48));
    }

    #[test]
    fn what_has_no_place_is_refused() {
        for abi in [Abi::SystemV, Abi::Win64] {
            let refused = |ctype| abi.places(&[CType::I32, ctype], CType::Void).unwrap_err();
            assert_eq!(refused(CType::LongDouble), Unplaced::LongDouble);
            assert_eq!(refused(CType::Void), Unplaced::Void);
        }
    }

    /// The rules in the words of the two documents: an argument goes into the
    /// next free register of its kind, or into the register of its position,
    /// or into the next 8 bytes of the stack.
    fn naive(abi: Abi, args: &[CType]) -> Vec<Place> {
        let is_float = |arg: &CType| matches!(arg, CType::F32 | CType::F64);
        let mut places: Vec<Place> = Vec::new();
        for (position, arg) in args.iter().enumerate() {
            let same = args[..position].iter().filter(|a| is_float(a) == is_float(arg)).count();
            let (index, limit) = match (abi, is_float(arg)) {
                (Abi::SystemV, true) => (same, 8),
                (Abi::SystemV, false) => (same, 6),
                (Abi::Win64, _) => (position, 4),
            };
            let spilled = places.iter().filter(|p| matches!(p, Place::Stack(_))).count();
            let first = if abi == Abi::Win64 { 32 } else { 0 };
            places.push(match is_float(arg) {
                _ if index >= limit => Place::Stack(first + 8 * spilled as u32),
                true => Place::Fp(index as u8),
                false => Place::Gp(index as u8),
            });
        }
        places
    }

    #[test]
    fn agrees_with_the_naive_model() {
        arbtest(|u| {
            let abi = *u.choose(&[Abi::SystemV, Abi::Win64])?;
            let mut args = Vec::new();
            for _ in 0..u.int_in_range(0..=40)? {
                args.push(*u.choose(CType::ALL)?);
            }
            args.retain(|arg| !matches!(arg, CType::Void | CType::LongDouble));
            let places = abi.places(&args, CType::Void).unwrap();
            assert_eq!(places.args, naive(abi, &args), "{abi} {args:?}");

            let distinct: HashSet<&Place> = places.args.iter().collect();
            assert_eq!(distinct.len(), args.len(), "{abi} {args:?}");
            let vectors = places.args.iter().filter(|p| matches!(p, Place::Fp(_))).count();
            assert_eq!(usize::from(places.vector_registers), vectors, "{abi} {args:?}");
            assert_eq!(places.stack_bytes % 16, 0, "{abi} {args:?}");
            let end = places.args.iter().fold(abi.shadow_bytes(), |end, place| match place {
                Place::Stack(offset) => {
                    assert_eq!(offset % 8, 0, "{abi} {args:?}");
                    end.max(offset + 8)
                }
                Place::Gp(_) | Place::Fp(_) => end,
                Place::Copy { .. } => unreachable!("there is no struct"),
            });
            assert_eq!(places.stack_bytes, end.next_multiple_of(16), "{abi} {args:?}");
            Ok(())
        })
        .budget_ms(300);
    }
}
