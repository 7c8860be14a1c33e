//! The values of arguments, in each of the forms in which a call takes them.

use hotcall::{Abi, CType, Value};

use super::Random;
use super::source::{read, scalars};

/// A value of any type.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Scalar(Value),
    /// The bytes of a struct, and no more of them.
    Struct(CType, Box<[u8]>),
}

impl Given {
    pub(super) fn new(random: &mut Random, ctype: CType) -> Given {
        if ctype.as_struct().is_none() {
            return Given::Scalar(random.value(ctype));
        }
        let mut bytes: Vec<u8> = (0..ctype.size()).map(|_| random.next() as u8).collect();
        for (offset, scalar, _) in scalars(ctype) {
            let word = random.value(scalar).word().to_le_bytes();
            bytes[offset..offset + scalar.size()].copy_from_slice(&word[..scalar.size()]);
        }
        Given::Struct(ctype, bytes.into())
    }

    /// The words of its scalars.
    pub(super) fn scalars(&self) -> Vec<u64> {
        match self {
            Given::Scalar(value) => vec![value.word()],
            Given::Struct(ctype, bytes) => read(*ctype, bytes),
        }
    }

    /// The form in which a function takes it.
    pub(super) fn value(&self) -> Value {
        match self {
            Given::Scalar(value) => *value,
            Given::Struct(_, bytes) => bytes.as_ptr().into(),
        }
    }

    /// The words that it has in a call.
    pub(super) fn words(&self, abi: Abi) -> Vec<u64> {
        match self {
            Given::Scalar(value) => vec![value.word()],
            Given::Struct(ctype, bytes) if ctype.classes(abi).is_empty() => {
                vec![bytes.as_ptr().expose_provenance() as u64]
            }
            Given::Struct(_, bytes) => {
                let word = |part: &[u8]| {
                    let mut word = [0; 8];
                    word[..part.len()].copy_from_slice(part);
                    u64::from_le_bytes(word)
                };
                bytes.chunks(8).map(word).collect()
            }
        }
    }
}
