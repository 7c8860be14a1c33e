//! Arguments that are passed as the address of a copy: texts in wide
//! characters, and structures in memory. The copies of a call share one piece
//! of memory. They are made while the GIL is held, as ctypes makes them: the
//! objects may be changed, and their memory given back, during the call.

use hotcall_tracer::Ops;

use crate::memory::{COPY_BYTES, COPY_WIDE, FREE_MEMORY, FREE_MEMORY_IF, NEW_MEMORY};

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Copied<W> {
    /// A str; the word is the size of its copy in bytes.
    Text(W),
    /// So many bytes at an address.
    Bytes(usize),
}

/// The copies of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Copies<W> {
    /// There are none.
    None,
    /// They are in the memory at this address.
    At(W),
    /// There is no memory, and an exception is set: the call ends.
    Missing,
}

/// Structures begin at multiples of this in the memory, before all texts.
const ALIGN: usize = 16;

/// Makes the copies. Each stands with the place of its word, which says what is
/// copied and is changed to the copy's address.
pub(super) fn make<O: Ops>(
    o: &mut O,
    copied: &[(usize, Copied<O::Word>)],
    words: &mut [O::Word],
) -> Copies<O::Word> {
    if copied.is_empty() {
        return Copies::None;
    }
    let memory = allocate(o, copied);
    let (zero, one) = (o.constant(0), o.constant(1));
    let is_there = o.ne(memory, zero);
    let is_missing = o.sub(one, is_there);
    if o.return_if(is_missing, zero) {
        return Copies::Missing;
    }
    let mut end = memory;
    for &(place, what) in copied {
        if let Copied::Bytes(size) = what {
            let from = std::mem::replace(&mut words[place], end);
            let size = o.constant(size as u64);
            o.help(&COPY_BYTES, &[from, end, size]);
            let step = o.constant(rounded(what) as u64);
            end = o.add(end, step);
        }
    }
    for &(place, what) in copied {
        if matches!(what, Copied::Text(_)) {
            let text = std::mem::replace(&mut words[place], end);
            end = o.help(&COPY_WIDE, &[text, end]);
        }
    }
    Copies::At(memory)
}

/// Memory for all copies, or 0 with an exception set.
fn allocate<O: Ops>(o: &mut O, copied: &[(usize, Copied<O::Word>)]) -> O::Word {
    let bytes: usize = copied.iter().map(|&(_, what)| rounded(what)).sum();
    let mut size = o.constant(bytes as u64);
    for (_, what) in copied {
        if let Copied::Text(bytes) = what {
            size = o.add(size, *bytes);
        }
    }
    o.help(&NEW_MEMORY, &[size])
}

/// The bytes that a structure takes in the memory.
fn rounded<W>(what: Copied<W>) -> usize {
    match what {
        Copied::Text(_) => 0,
        Copied::Bytes(size) => size.next_multiple_of(ALIGN),
    }
}

impl<W: Copy> Copies<W> {
    /// Whether the call ends.
    pub(super) fn are_missing(&self) -> bool {
        matches!(self, Copies::Missing)
    }

    /// Gives the memory back.
    pub(super) fn free<O: Ops<Word = W>>(&self, o: &mut O) {
        if let Copies::At(memory) = self {
            o.help(&FREE_MEMORY, &[*memory]);
        }
    }

    /// Gives the memory back if `condition` is not 0.
    pub(super) fn free_if<O: Ops<Word = W>>(&self, o: &mut O, condition: W) {
        if let Copies::At(memory) = self {
            o.help(&FREE_MEMORY_IF, &[condition, *memory]);
        }
    }
}
