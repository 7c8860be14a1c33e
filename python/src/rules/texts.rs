//! Texts among the arguments: they are passed as copies in wide characters, in
//! one piece of memory.

use hotcall_tracer::Ops;

use crate::wide::{COPY_WIDE, FREE_MEMORY, FREE_MEMORY_IF, NEW_MEMORY};

/// The copies of a call's texts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Texts<W> {
    /// No argument is a text.
    None,
    /// They are in the memory at this address.
    At(W),
    /// There is no memory, and an exception is set: the call ends.
    Missing,
}

/// Copies texts. Each is the place of its word, which is changed to the copy's
/// address, and the size of the copy in bytes.
pub(super) fn copy<O: Ops>(
    o: &mut O,
    texts: &[(usize, O::Word)],
    words: &mut [O::Word],
) -> Texts<O::Word> {
    let Some((&(_, first), others)) = texts.split_first() else { return Texts::None };
    let size = others.iter().fold(first, |sum, &(_, size)| o.add(sum, size));
    let memory = o.help(&NEW_MEMORY, &[size]);
    let (zero, one) = (o.constant(0), o.constant(1));
    let is_there = o.ne(memory, zero);
    let is_missing = o.sub(one, is_there);
    if o.return_if(is_missing, zero) {
        return Texts::Missing;
    }
    let mut end = memory;
    for &(place, _) in texts {
        let text = std::mem::replace(&mut words[place], end);
        end = o.help(&COPY_WIDE, &[text, end]);
    }
    Texts::At(memory)
}

impl<W: Copy> Texts<W> {
    /// Whether the call ends.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Texts::Missing)
    }

    /// Gives the memory back.
    pub(super) fn free<O: Ops<Word = W>>(&self, o: &mut O) {
        if let Texts::At(memory) = self {
            o.help(&FREE_MEMORY, &[*memory]);
        }
    }

    /// Gives the memory back if `condition` is not 0.
    pub(super) fn free_if<O: Ops<Word = W>>(&self, o: &mut O, condition: W) {
        if let Texts::At(memory) = self {
            o.help(&FREE_MEMORY_IF, &[condition, *memory]);
        }
    }
}
